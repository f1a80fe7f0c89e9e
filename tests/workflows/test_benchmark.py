"""The benchmarks of the field, on tiny sets of the released formats."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from napari_wsss import evaluate, load_segmenter
from napari_wsss.errors import CancelledError, DataError, OutputError, SettingsError
from napari_wsss.jobs import CancelToken, EpochEnd
from napari_wsss.patches.presets import PRESETS
from napari_wsss.recipes import recipe
from napari_wsss.settings import EvaluationSettings
from napari_wsss.workflows import run_benchmark

SIDE = 32
COLORS = np.array([(110, 50, 140), (230, 150, 190), (70, 60, 150), (200, 190, 150), (244,) * 3])
NAMES = {
    "luad-histoseg": lambda i, label: f"{1000 + i % 4}-{i}-200-[{' '.join(label)}]",
    "bcss-wsss": lambda i, label: (
        f"TCGA-A1-A{i % 4:03d}-DX1_xmin{i}_ymin25055_MPP-0.2500+0[{''.join(label)}]"
    ),
}


def write_image(path, values, rng):
    """Write tissue in the colours of the class values, (SIDE, SIDE)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = COLORS[values] + rng.normal(0, 8, (*values.shape, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def write_mask(path, values):
    """Write a palette image, as the sets hold them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(values).convert("P")
    mask.putpalette([c for color in COLORS for c in color])
    mask.putdata(values.ravel().tolist())
    mask.save(path)


def write_set(root, name):
    """Write 16 patches to train on, of one or two classes, and 3 images to test on."""
    rng = np.random.default_rng(0)
    for i in range(16):
        values = np.full((SIDE, SIDE), i % 4, np.uint8)
        if i >= 8:
            values[:, SIDE // 2 :] = (i + 1) % 4
        label = [str(int((values == k).any())) for k in range(4)]
        write_image(root / "train" / f"{NAMES[name](i, label)}.png", values, rng)
    for i in range(3):
        values = rng.integers(0, 4, (2, 2), np.uint8).repeat(SIDE // 2, 0).repeat(SIDE // 2, 1)
        values[:4] = 4  # background, which is left out
        write_image(root / "test" / "img" / f"{i}.png", values, rng)
        write_mask(root / "test" / "mask" / f"{i}.png", values)
    return root


@pytest.fixture(params=list(NAMES))
def released(request, tmp_path):
    """A set and its name."""
    return request.param, write_set(tmp_path / request.param, request.param)


def tiny(**classifier):
    """The recipe `mlps` on a tiny network."""
    common = {
        "encoder": {"name": "test_resnet", "weights": "random", "upscale": 1.0},
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 4,
        "precision": "fp32",
    }
    bundle = recipe("mlps")
    return bundle.model_copy(
        update={
            "classifier": bundle.classifier.changed(**common, **classifier),
            "segmenter": bundle.segmenter.changed(**common, decoder_channels=16),
        }
    )


QUICK = EvaluationSettings(bootstrap=10)


def run(released, out, settings=None, **more):
    name, folder = released
    return run_benchmark(name, folder, out, settings or tiny(), evaluation=QUICK, **more)


def test_from_the_folder_to_the_table(released, tmp_path):
    name, folder = released
    out = tmp_path / "out"
    result = run(released, out)
    assert [(row["method"], row["protocol"]) for row in result.table] == [
        ("CAM only", "predicted gate"),
        ("CAM only", "oracle labels"),
        ("both phases", "predicted gate"),
        ("both phases", "oracle labels"),
    ]
    classes = PRESETS[name].classes.names
    columns = [f"IoU {c}" for c in classes] + ["mIoU", "FwIoU", "accuracy", "Dice"]
    assert list(result.table[0])[2:] == columns

    model = load_segmenter(out / "segmenter.safetensors")
    assert model.info.supervision == "pseudo masks"
    assert model.mpp == (0.25 if name == "bcss-wsss" else None)
    ours = evaluate(model, folder / "test/img", folder / "test/mask", settings=QUICK)
    scores = ours["oracle_labels"].scores
    assert result.table[3]["mIoU"] == f"{100 * scores.miou:.2f}"
    assert result.table[3]["Dice"] == f"{100 * scores.mean_dice:.2f}"
    pixels = result.evaluations["both phases"]["protocols"]["oracle_labels"]["n_pixels"]
    assert pixels == 3 * (SIDE - 4) * SIDE

    text = (out / "benchmark.md").read_text("utf-8")
    assert f"| both phases | oracle labels | {result.table[3][columns[0]]} |" in text
    assert json.loads((out / "benchmark.json").read_text("utf-8"))["table"] == result.table


def test_what_is_done_is_not_done_again(released, tmp_path):
    events = []
    out = tmp_path / "out"
    first = run(released, out)
    before = (out / "segmenter.safetensors").read_bytes()
    again = run(released, out, on_event=events.append)
    assert set(again.stages.values()) == {"skipped"}
    assert again.table == first.table
    assert not [e for e in events if isinstance(e, EpochEnd)]
    assert (out / "segmenter.safetensors").read_bytes() == before
    with pytest.raises(OutputError, match=r"'classifier' was done with other.*--overwrite"):
        run(released, out, tiny(patience=3))
    assert run(released, out, tiny(patience=3), overwrite=True).stages["classifier"] == "done"


def test_a_run_that_was_stopped_goes_on(tmp_path):
    released = "luad-histoseg", write_set(tmp_path / "set", "luad-histoseg")
    cancel = CancelToken()

    def stop(event):
        if isinstance(event, EpochEnd):
            cancel.cancel()

    with pytest.raises(CancelledError):
        run(released, tmp_path / "out", on_event=stop, cancel=cancel)
    assert not (tmp_path / "out" / "segmenter.safetensors").exists()
    gone_on = run(released, tmp_path / "out")
    straight = run(released, tmp_path / "straight")
    one, two = (tmp_path / f / "segmenter.safetensors" for f in ("out", "straight"))
    assert one.read_bytes() == two.read_bytes()
    assert gone_on.table == straight.table


def test_the_other_split_and_the_training_masks_are_not_touched(tmp_path):
    folder = write_set(tmp_path / "set", "bcss-wsss")
    (folder / "val" / "img").mkdir(parents=True)
    (folder / "val" / "img" / "broken.png").write_bytes(b"no image")
    run(("bcss-wsss", folder), tmp_path / "out")
    with pytest.raises(DataError, match="broken"):
        run(("bcss-wsss", folder), tmp_path / "other", split="val")


def test_what_is_missing_is_named(tmp_path):
    folder = write_set(tmp_path / "set", "luad-histoseg")
    out = tmp_path / "out"
    with pytest.raises(SettingsError, match="luad-histoseg, bcss-wsss"):
        run(("camelyon", folder), out)
    with pytest.raises(DataError, match="There is no patch set"):
        run(("luad-histoseg", tmp_path / "none"), out)
    (folder / "test/mask/1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        run(("luad-histoseg", folder), out)
    shutil.rmtree(folder / "test")
    with pytest.raises(DataError, match="no patches in the split 'test'"):
        run(("luad-histoseg", folder), out)
    assert not out.exists()
