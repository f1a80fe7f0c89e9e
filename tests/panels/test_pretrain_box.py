"""Pretraining in the Train classifier panel, used as a person would."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt

from napari_wsss.jobs import EpochEnd
from napari_wsss.panels.train_classifier import TrainClassifierPanel
from napari_wsss.patches import load_patches
from napari_wsss.settings import ClassifierSettings, PretrainSettings

WAIT = 30_000
SMALL = {
    "encoder": {"output_stride": 32, "upscale": 1.0},
    "optimiser": {"freeze_batch_norm": False},
    "tile_px": 32,
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "projection": 8,
}


def tissue(side, seed=0):
    rng = np.random.default_rng(seed)
    pixels = np.array([150, 80, 160]) + rng.normal(0, 15, (side, side, 3))
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture
def box(viewer, add_panel, tmp_path):
    """The box of a panel with small settings and a file to write; the panel as `box.panel`."""
    panel = add_panel(TrainClassifierPanel)
    encoder = {"name": "test_resnet", "weights": "random"}
    panel.form.set_settings(ClassifierSettings.from_dict({"encoder": encoder}))
    box = panel.pretraining
    box.panel = panel
    box.form.set_settings(PretrainSettings.from_dict(SMALL))
    box.out.path = tmp_path / "encoder.safetensors"
    return box


@pytest.fixture
def folder(tmp_path):
    """A folder per class with 8 patches."""
    for i in range(8):
        place = tmp_path / "set" / ("left" if i % 2 else "right")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(tissue(32, i)).save(place / f"{i}.png")
    return tmp_path / "set"


def listed(box):
    return [box.sources.item(i).text() for i in range(box.sources.count())]


def pretrain(box, qtbot):
    assert box.job.button.isEnabled(), box.job.message.text()
    with qtbot.waitSignal(box.job.runner.ended, timeout=WAIT):
        box.job.button.click()


def test_a_newcomer_is_told_what_is_missing(box, viewer):
    assert not box.job.button.isEnabled()
    assert "Open a slide and tick it" in box.job.message.text()
    viewer.add_image(tissue(64), rgb=True, name="slide")
    viewer.add_image(np.zeros((64, 64)), name="grey")
    assert listed(box) == ["slide"]
    assert box.job.button.isEnabled()
    box.sources.item(0).setCheckState(Qt.CheckState.Unchecked)
    assert not box.job.button.isEnabled()
    viewer.layers[0].name = "renamed"
    assert listed(box) == ["renamed"]
    assert not box.job.button.isEnabled()  # it stays as it was ticked


def test_a_layer_of_unknown_resolution_is_not_scaled(box, viewer):
    viewer.add_image(tissue(64), rgb=True, name="slide")
    box.form.set_settings(box.form.settings().changed(tile_mpp=1.0))
    box.inputs_changed()
    assert "slide does not say how many µm" in box.job.message.text()


def test_the_classifier_begins_from_what_was_pretrained(box, viewer, folder, qtbot):
    box.panel.state.set(patch_set=load_patches(folder))
    viewer.add_image(tissue(96), rgb=True, name="slide")
    assert listed(box) == ["Patches of the data set (8)", "slide"]
    pretrain(box, qtbot)
    assert not box.job.error.text()
    assert "begins from encoder.safetensors" in box.result.text()
    encoder = box.panel.settings().encoder
    assert (encoder.name, encoder.weights) == ("test_resnet", str(box.out.path))
    # Once more, it begins from where the first did, not from what it is going to replace.
    assert box.settings().encoder.weights == "random"


def test_an_existing_file_is_replaced_only_after_asking(box, viewer, qtbot, monkeypatch):
    viewer.add_image(tissue(96), rgb=True, name="slide")
    box.out.path.write_bytes(b"mine")
    monkeypatch.setattr(box, "ask", lambda _: False)
    box.job.button.click()
    assert not box.job.runner.running
    assert box.out.path.read_bytes() == b"mine"
    monkeypatch.setattr(box, "ask", lambda _: True)
    pretrain(box, qtbot)
    assert box.out.path.stat().st_size > 1000


def test_stopping_keeps_the_epochs_and_other_settings_begin_anew(box, viewer, qtbot, monkeypatch):
    viewer.add_image(tissue(96), rgb=True, name="slide")
    box.form.set_settings(box.form.settings().changed(epochs=50))

    def stop(event):
        if isinstance(event, EpochEnd) and event.epoch == 1:
            box.job.runner.cancel()

    box.job.runner.event.connect(stop)
    pretrain(box, qtbot)
    box.job.runner.event.disconnect(stop)
    assert "Stopped" in box.job.message.text()
    assert not box.out.path.exists()
    box.form.set_settings(box.form.settings().changed(epochs=1))
    asked = []
    monkeypatch.setattr(box, "ask", lambda text: asked.append(text) or True)
    with qtbot.waitSignal(box.made, timeout=WAIT):
        box.job.button.click()
    assert "begin anew" in asked[0]
    qtbot.waitUntil(lambda: not box.job.runner.running, timeout=WAIT)


def test_what_goes_wrong_is_shown(box, viewer, qtbot):
    viewer.add_image(np.full((96, 96, 3), 243, np.uint8), rgb=True, name="glass")
    pretrain(box, qtbot)
    assert "No tile of 32 px with at least 50% tissue" in box.job.error.text()
    assert not box.out.path.exists()
