"""``pretrain`` on tiny images."""

import json

import pytest
from safetensors.torch import load_file

from napari_wsss import pretrain_encoder
from napari_wsss.settings import PretrainSettings

SMALL = [
    *("--set", "encoder.name=test_resnet", "--set", "encoder.weights=random"),
    *("--set", "optimiser.freeze_batch_norm=false", "--set", "tile_px=32", "--set", "epochs=1"),
    *("--set", "steps_per_epoch=1", "--set", "batch_size=4", "--set", "min_tissue=0"),
    *("--device", "cpu", "--quiet"),
]


def test_weights_that_phase_1_takes(cli, pairs, dataset, tiny, tmp_path):
    out = tmp_path / "encoder.safetensors"
    result = cli("pretrain", pairs / "images", "--out", out, *SMALL, "--seed", 3, "--json", "-")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["tiles"], summary["sources"], summary["seed"]) == (18, 3, 3)
    assert summary["encoder"] == "test_resnet"
    assert summary["metrics"]["spread"] > 0

    other = tmp_path / "function.safetensors"
    settings = PretrainSettings(
        encoder={"name": "test_resnet", "weights": "random"},
        optimiser={"freeze_batch_norm": False},
        tile_px=32,
        epochs=1,
        steps_per_epoch=1,
        batch_size=4,
        min_tissue=0,
        seed=3,
    )
    pretrain_encoder(pairs / "images", other, settings, device="cpu")
    one, two = (load_file(str(path)) for path in (out, other))
    assert all(one[k].equal(two[k]) for k in two)

    model = tmp_path / "classifier.safetensors"
    changes = ("--set", "encoder.name=test_resnet", "--set", f"encoder.weights={out}")
    result = cli("train-classifier", dataset, "--out", model, *tiny, *changes)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--set", "batch_size=1"), "batch_size"),
        (("--set", "batch_size=99"), "a batch needs 99"),
        (("--set", "tile_px=500"), "smaller than a tile"),
        (("--set", "tile_mpp=1.0"), "--mpp"),
    ],
)
def test_what_cannot_be_done_is_said(cli, pairs, tmp_path, changes, words):
    out = tmp_path / "e.safetensors"
    result = cli("pretrain", pairs / "images", "--out", out, *SMALL, *changes)
    assert result.exit_code == 1
    assert words in result.stderr
    assert not out.exists()
