"""Runs of the segmenter, from pseudo masks and from true masks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from napari_wsss.cams import PseudoMasks
from napari_wsss.cams.store import PseudoMaskWriter, write_record
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.jobs import CancelToken, EpochEnd, Log, Progress
from napari_wsss.models import load_segmenter
from napari_wsss.patches import PatchSet
from napari_wsss.training import TrueMasks, segmenter_job, train_segmenter


@pytest.fixture
def pseudo(patches, tmp_path):
    """Pseudo masks of three depths; the deepest is right, the others are half ignored."""
    return write_pseudo(patches, tmp_path / "pseudo")


def write_pseudo(patches, folder, depths=3, classes=None):
    classes = classes or patches.classes
    writer = PseudoMaskWriter(folder, classes, depths)
    for i, name in enumerate(patches.names):
        truth = patches.read_mask(i)
        masks = np.stack([truth] * depths)
        masks[:-1, ::2] = 255
        writer.write(name, masks, np.full(truth.shape, 255, np.uint8))
    classes.with_index_values().write(folder / "classes.toml")
    write_record(folder, {"complete": True, "fingerprint": "f", "depths": depths})
    return PseudoMasks(folder)


def test_it_learns_from_pseudo_masks_without_opening_a_true_one(
    patches, pseudo, tmp_path, segmenter_settings, monkeypatch, events
):
    for path in patches.masks:
        path.write_bytes(b"damaged")
    monkeypatch.setattr(PatchSet, "read_mask", lambda *_: pytest.fail("a mask was read"))
    settings = segmenter_settings(
        epochs=4,
        steps_per_epoch=6,
        optimiser={"encoder_lr": 3e-3, "head_lr": 1e-2, "freeze_batch_norm": False},
    )
    out = tmp_path / "s.safetensors"
    model = train_segmenter(patches, pseudo, out, settings, on_event=events.append)
    ends = [e.metrics for e in events if isinstance(e, EpochEnd)]
    assert ends[-1]["target_miou"] > 0.9
    assert ends[-1]["loss"] < 0.85 * ends[0]["loss"]
    assert model.info.metrics["target_miou"] == max(e["target_miou"] for e in ends)
    assert model.info.supervision == "pseudo masks"
    assert model.info.architecture == {**settings.architecture, "gate_bias": True}  # fitted
    loaded = load_segmenter(out)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in model.state_dict().items())


def test_true_masks_are_one_flag_away(patches, tmp_path, segmenter_settings, monkeypatch):
    read = []
    original = PatchSet.read_mask
    monkeypatch.setattr(
        PatchSet, "read_mask", lambda self, i, *a: read.append(i) or original(self, i, *a)
    )
    model = train_segmenter(
        patches, TrueMasks(patches), tmp_path / "s.safetensors", segmenter_settings()
    )
    assert read
    assert model.info.supervision == "true masks"


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3plus"])
def test_a_resumed_run_equals_one_that_never_stopped(
    patches, pseudo, tmp_path, segmenter_settings, decoder
):
    """Bit for bit, with the dropout of DeepLabV3+ too."""
    settings = segmenter_settings(decoder=decoder, epochs=3)
    torch.manual_seed(1)
    straight = train_segmenter(patches, pseudo, tmp_path / "one.safetensors", settings)
    cancel = CancelToken()
    job = segmenter_job(patches, pseudo, tmp_path / "two.safetensors", settings, cancel=cancel)
    for event in job:
        if isinstance(event, Progress) and event.stage.startswith("Segmenter") and event.done == 3:
            job.close()
    torch.manual_seed(2)  # the state of the global generator must not matter
    resumed = train_segmenter(patches, pseudo, tmp_path / "two.safetensors", settings)
    state = resumed.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in straight.state_dict().items())
    for a, b in zip(straight.history, resumed.history, strict=True):
        assert {k: v for k, v in a.items() if k != "seconds"} == {
            k: v for k, v in b.items() if k != "seconds"
        }


def test_masks_of_other_targets_are_another_run(
    patches, pseudo, tmp_path, segmenter_settings, events
):
    out, settings = tmp_path / "s.safetensors", segmenter_settings()
    job = segmenter_job(patches, pseudo, out, settings)
    for event in job:
        if isinstance(event, EpochEnd):
            job.close()
    with pytest.raises(OutputError, match="other patches or settings"):
        train_segmenter(patches, TrueMasks(patches), out, settings)


@pytest.mark.parametrize("kind", ["pseudo", "true"])
def test_classes_in_another_order_are_refused(patches, tmp_path, segmenter_settings, kind):
    swapped = ClassTable.from_names(["lines", "dots"], values=[1, 0])
    if kind == "pseudo":
        targets = write_pseudo(patches, tmp_path / "swapped", classes=swapped)
    else:
        targets = TrueMasks(replace(patches, classes=swapped))
    with pytest.raises(DataError, match="lines, dots; the patches have dots, lines"):
        train_segmenter(patches, targets, tmp_path / "s.safetensors", segmenter_settings())


def test_weights_must_fit_the_depths(patches, tmp_path, segmenter_settings):
    two = write_pseudo(patches, tmp_path / "two", depths=2)
    with pytest.raises(DataError, match="2 depths but depth_weights has 3"):
        train_segmenter(patches, two, tmp_path / "s.safetensors", segmenter_settings())
    one = write_pseudo(patches, tmp_path / "one", depths=1)
    settings = segmenter_settings(epochs=1, steps_per_epoch=1)
    train_segmenter(patches, one, tmp_path / "s.safetensors", settings)


def test_missing_pseudo_masks_are_all_named_at_once(patches, pseudo, tmp_path, segmenter_settings):
    gone = [patches.names[i] for i in (1, 4)]
    for name in gone:
        (pseudo.folder / "depth-2" / f"{name}.png").unlink()
    with pytest.raises(DataError, match="no pseudo masks of 2 patches") as caught:
        train_segmenter(patches, pseudo, tmp_path / "s.safetensors", segmenter_settings())
    assert all(name in str(caught.value) for name in gone)


def test_pseudo_masks_of_other_sizes_are_refused(patches, pseudo, tmp_path, segmenter_settings):
    for name in patches.names:
        Image.new("P", (31, 32)).save(pseudo.folder / "depth-1" / f"{name}.png")
        Image.new("P", (31, 32)).save(pseudo.folder / "depth-2" / f"{name}.png")
        Image.new("P", (31, 32)).save(pseudo.folder / "depth-3" / f"{name}.png")
    with pytest.raises(DataError, match="31 x 32 px, the image of how certain it is 32 x 32"):
        train_segmenter(patches, pseudo, tmp_path / "s.safetensors", segmenter_settings())
    for name in patches.names:
        Image.new("L", (31, 32)).save(pseudo.folder / "agreement" / f"{name}.png")
    with pytest.raises(DataError, match="31 x 32 px, the patch 32 x 32"):
        train_segmenter(patches, pseudo, tmp_path / "s.safetensors", segmenter_settings())


# -- true masks -------------------------------------------------------------------------


def test_true_masks_from_a_folder(make_patches, segmenter_settings, tmp_path):
    patches = make_patches(masks=False)
    with pytest.raises(DataError, match="has no masks"):
        TrueMasks(patches)
    folder = tmp_path / "elsewhere"
    for name in patches.names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((32, 32), 1, np.uint8)).save(folder / f"{name}.png")
    found = TrueMasks(patches, folder).targets(patches.names[0])
    assert found.shape == (1, 32, 32)
    assert (found == 1).all()
    settings = segmenter_settings(epochs=1, steps_per_epoch=1)
    train_segmenter(patches, TrueMasks(patches, folder), tmp_path / "s.safetensors", settings)


def test_missing_and_misfit_true_masks_are_all_named(patches, tmp_path, segmenter_settings):
    for i in (3, 8):
        Image.fromarray(np.zeros((32, 30), np.uint8)).save(patches.masks[i])
    with pytest.raises(DataError, match="30 x 32") as caught:
        train_segmenter(
            patches, TrueMasks(patches), tmp_path / "s.safetensors", segmenter_settings()
        )
    assert all(str(patches.masks[i]) in str(caught.value) for i in (3, 8))
    for i in (2, 7):
        patches.masks[i].unlink()
    with pytest.raises(DataError, match="2 of 12 patches have no mask") as caught:
        TrueMasks(patches)
    assert all(str(patches.masks[i]) in str(caught.value) for i in (2, 7))


def test_true_masks_need_values(patches):
    with pytest.raises(DataError, match="no mask values"):
        TrueMasks(replace(patches, classes=ClassTable.from_names(["dots", "lines"])))


def test_unlisted_values_are_ignored(patches):
    Image.fromarray(np.full((32, 32), 77, np.uint8)).save(patches.masks[0])
    assert (TrueMasks(patches).targets(patches.names[0]) == 255).all()


def test_the_run_says_what_it_learns_from(patches, tmp_path, segmenter_settings, events):
    settings = segmenter_settings(epochs=1, steps_per_epoch=1)
    train_segmenter(
        patches, TrueMasks(patches), tmp_path / "s.safetensors", settings, on_event=events.append
    )
    texts = [e.message for e in events if isinstance(e, Log)]
    assert any("from true masks on" in t and "held out" in t for t in texts)
