"""``benchmark`` on a tiny set of a released format."""

import json

import numpy as np
import pytest
from PIL import Image

TINY = [
    *(
        f"{stage}.{change}"
        for stage in ("classifier", "segmenter")
        for change in (
            "encoder.name=test_resnet",
            "encoder.weights=random",
            "encoder.upscale=1.0",
            "epochs=1",
            "steps_per_epoch=1",
            "batch_size=2",
        )
    ),
    "segmenter.decoder_channels=16",
    "evaluation.bootstrap=0",
]
OPTIONS = [word for change in TINY for word in ("--set", change)] + ["--device", "cpu", "--quiet"]


@pytest.fixture
def luad(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(8):
        label = " ".join(str(int(k in (i % 4, (i + 1) % 4))) for k in range(4))
        folder = tmp_path / "luad" / "train"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(80, 180, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"10{i % 3}-{i}-7-[{label}].png")
    for part, values in (("img", (32, 32, 3)), ("mask", (32, 32))):
        folder = tmp_path / "luad" / "test" / part
        folder.mkdir(parents=True)
        drawn = rng.integers(0, 4, values, np.uint8) + (100 if part == "img" else 0)
        Image.fromarray(drawn.astype(np.uint8)).save(folder / "a.png")
    return tmp_path / "luad"


def test_one_command_to_the_table(cli, luad, tmp_path):
    out = tmp_path / "out"
    args = ("benchmark", "luad-histoseg", luad, "--out", out, "--recipe", "mlps", *OPTIONS)
    result = cli(*args, "--json", tmp_path / "s.json")
    assert result.exit_code == 0, result.output
    assert "oracle labels" in result.stdout
    assert "mIoU" in (out / "benchmark.md").read_text("utf-8")
    summary = json.loads((tmp_path / "s.json").read_text("utf-8"))
    assert summary["recipe"] == "mlps"
    assert len(summary["table"]) == 4
    again = cli(*args, "--json", "-")
    assert set(json.loads(again.stdout)["stages"].values()) == {"skipped"}


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--set", "epochs=3"), 1, "Name the stage first"),
        (("--set", "classifier.epoch=3"), 1, "did you mean epochs?"),
        (("--recipe", "mlp"), 1, "Did you mean 'mlps'"),
        (("--split", "train"), 2, "val, test"),
    ],
)
def test_wrong_use_is_named(cli, luad, tmp_path, options, code, words):
    result = cli("benchmark", "luad-histoseg", luad, "--out", tmp_path / "out", *options)
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())
