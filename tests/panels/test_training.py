"""The panels that train, used as a person would."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qtpy.QtCore import Qt
from typer.testing import CliRunner

from napari_wsss.cams.store import PseudoMaskWriter, write_record
from napari_wsss.classes import ClassTable
from napari_wsss.cli.app import app
from napari_wsss.jobs import EpochEnd
from napari_wsss.models import read_info
from napari_wsss.panels.support.state import state_of
from napari_wsss.panels.train_classifier import TrainClassifierPanel
from napari_wsss.panels.train_segmenter import TrainSegmenterPanel
from napari_wsss.patches import load_patches
from napari_wsss.settings import ClassifierSettings, SegmenterSettings
from napari_wsss.training.state import state_path

SIDE, WAIT = 32, 30_000
SMALL = {
    "encoder": {"name": "test_resnet", "weights": "random", "upscale": 1.0},
    "epochs": 3,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "precision": "fp32",
    "validation_share": 0.3,
    "seed": 5,
}
OPTIONS = [
    *("--set", "encoder.name=test_resnet", "--set", "encoder.weights=random"),
    *("--set", "encoder.upscale=1.0", "--set", "epochs=3", "--set", "steps_per_epoch=2"),
    *("--set", "batch_size=4", "--set", "precision=fp32", "--set", "validation_share=0.3"),
    *("--seed", "5", "--quiet"),
]


def write_set(root: Path, kinds=(0, 1, 2)) -> Path:
    """Write 24 patches of 8 images: of the first tissue, of the second, or half of each."""
    rng = np.random.default_rng(0)
    classes = ClassTable.from_names(["dots", "lines"], values=[0, 1])
    rows = ["path,group,dots,lines"]
    for i in range(24):
        kind = kinds[i % len(kinds)]
        mask = np.full((SIDE, SIDE), min(kind, 1), np.uint8)
        mask[:, : SIDE // 2] = 0 if kind == 2 else mask[0, 0]
        tint = np.where(mask[..., None] == 0, (120, 60, 150), (230, 150, 190))
        pixels = (tint + rng.normal(0, 12, tint.shape)).clip(0, 255).astype(np.uint8)
        for folder, image in (("images", pixels), ("masks/images", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / folder / f"p{i:02d}.png")
        present = ",".join(str(int((mask == k).any())) for k in (0, 1))
        rows.append(f"images/p{i:02d}.png,slide-{i % 8},{present}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    classes.write(root / "classes.toml")
    return root


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set")


@pytest.fixture
def ready(qtbot):
    """Return a function that waits until a panel's button can be pressed."""

    def wait(panel):
        qtbot.waitUntil(
            lambda: panel.job.button.isEnabled() and panel._looker.look is not None, timeout=WAIT
        )

    return wait


@pytest.fixture
def panel(viewer, add_panel, folder, ready):
    """A classifier panel with a data set and small settings."""
    panel = add_panel(TrainClassifierPanel)
    panel.form.set_settings(ClassifierSettings.from_dict(SMALL))
    panel.state.set(patch_set=load_patches(folder))
    ready(panel)
    return panel


@pytest.fixture
def train(qtbot):
    """Return a function that presses the button and waits for the end."""

    def run(panel):
        with qtbot.waitSignal(panel.job.runner.ended, timeout=WAIT):
            panel.job.button.click()

    return run


@pytest.fixture
def command():
    """Return a function that calls the command line."""

    def call(*args):
        result = CliRunner().invoke(app, [str(a) for a in (*args, *OPTIONS)])
        assert result.exit_code == 0, result.output

    return call


def stop_after_epoch(panel, qtbot, epoch=1):
    """Press the button, stop the run after an epoch; returns the seconds until the end."""
    pressed = []

    def stop(event):
        if isinstance(event, EpochEnd) and event.epoch == epoch:
            pressed.append(time.monotonic())
            panel.job.runner.cancel()

    # At once, in the thread that hears of it: these epochs are shorter than a click.
    panel.job.runner.event.connect(stop, Qt.ConnectionType.DirectConnection)
    with qtbot.waitSignal(panel.job.runner.cancelled, timeout=WAIT):
        panel.job.button.click()
    panel.job.runner.event.disconnect(stop)
    return time.monotonic() - pressed[0]


def test_a_newcomer_is_told_what_is_missing(add_panel, folder, ready):
    panel = add_panel(TrainClassifierPanel)
    assert not panel.job.button.isEnabled()
    assert "Choose labelled patches first" in panel.job.message.text()
    panel.data.path = folder
    ready(panel)
    assert panel.state.patch_set.root == folder
    assert panel.data_text.text() == "24 patches: dots, lines"
    assert panel.out.path == folder / "classifier.safetensors"


def test_without_a_data_set_in_the_field_nothing_is_trained(panel, folder, ready, qtbot):
    known = panel.state.patch_set
    panel.data.line.clear()
    assert panel.data_text.text() == ""
    assert not panel.job.button.isEnabled()
    assert "Choose labelled patches first" in panel.job.message.text()
    qtbot.waitUntil(lambda: not panel._looker.looking, timeout=WAIT)
    assert not panel.job.button.isEnabled()
    assert panel.state.patch_set is known, "other panels may go on with it"
    panel.data.path = folder
    ready(panel)
    assert panel.data_text.text() == "24 patches: dots, lines"


def test_a_set_that_cannot_be_loaded_is_not_the_one_before(panel, folder, qtbot):
    panel.data.path = folder / "nowhere"
    assert panel.data_text.text() == ""
    qtbot.waitUntil(lambda: "nowhere" in panel.job.error.text(), timeout=WAIT)
    qtbot.waitUntil(lambda: "Choose labelled" in panel.job.message.text(), timeout=WAIT)
    assert not panel.job.button.isEnabled()


def test_the_work_folder_is_where_the_model_goes(panel, tmp_path):
    panel.state.set(folder=tmp_path / "work")
    assert panel.out.path == tmp_path / "work" / "classifier.safetensors"
    panel.out.path = tmp_path / "mine.safetensors"
    panel.state.set(folder=tmp_path / "other")
    assert panel.out.path == tmp_path / "mine.safetensors"


def test_panel_and_command_line_write_the_same_bytes(panel, train, ready, folder, command):
    train(panel)
    out = folder / "classifier.safetensors"
    assert panel.state.classifier == out
    other = folder / "command.safetensors"
    command("train-classifier", folder, "--out", other)
    assert out.read_bytes() == other.read_bytes()
    ready(panel)
    assert panel.run_view.result.text().startswith("Kept epoch ")
    assert " of 3, mAP " in panel.run_view.result.text()
    assert len(panel.run_view.curves.history) == 3
    assert "ap dots" in panel.run_view.curves.history[-1]


def test_stop_and_go_on_give_the_bytes_of_an_uninterrupted_run(
    panel, train, ready, folder, qtbot, command
):
    assert stop_after_epoch(panel, qtbot) < 1
    assert panel.state.classifier is None
    ready(panel)
    done = len(panel.run_view.curves.history)
    assert done in (1, 2)  # one more may have ended meanwhile
    assert panel.job.button.text() == f"Go on after epoch {done}"
    train(panel)
    assert len(panel.run_view.curves.history) == 3
    command("train-classifier", folder, "--out", folder / "straight.safetensors")
    straight = (folder / "straight.safetensors").read_bytes()
    assert panel.state.classifier.read_bytes() == straight


def test_an_unfinished_run_is_offered_with_its_settings(panel, train, ready, qtbot, monkeypatch):
    stop_after_epoch(panel, qtbot)
    panel.form.set_settings(panel.settings().changed(seed=6))
    panel.inputs_changed()
    ready(panel)
    done = len(panel.run_view.curves.history)
    assert "with other settings" in panel.earlier.text()
    asked = []
    monkeypatch.setattr(panel, "ask", lambda *args: asked.append(args))
    panel.job.button.click()
    assert not panel.job.runner.running
    assert asked[0][1:] == ("Go on with it", "Begin anew")
    monkeypatch.setattr(panel, "ask", lambda *_: "Go on with it")
    seen = []
    panel.job.runner.event.connect(seen.append)
    train(panel)
    assert panel.settings().seed == 5
    assert [e.epoch for e in seen if isinstance(e, EpochEnd)] == [2, 3][done - 1 :]


def test_a_trained_model_is_replaced_only_when_asked(panel, train, ready, monkeypatch):
    train(panel)
    ready(panel)
    before = panel.out.path.read_bytes()
    monkeypatch.setattr(panel, "ask", lambda *_: None)
    panel.job.button.click()
    assert not panel.job.runner.running
    panel.form.set_settings(panel.settings().changed(seed=6))
    panel.inputs_changed()
    ready(panel)
    monkeypatch.setattr(panel, "ask", lambda *_: "Replace it")
    train(panel)
    assert panel.out.path.read_bytes() != before


def test_what_is_no_model_is_never_replaced(panel, ready, qtbot):
    panel.out.path.write_text("my notes")
    panel.inputs_changed()
    qtbot.waitUntil(lambda: "Choose another name" in panel.job.message.text(), timeout=WAIT)
    assert not panel.job.button.isEnabled()


@pytest.mark.parametrize("kind", ["nan", "runtime"])
def test_an_error_stays_readable(panel, train, monkeypatch, kind):
    """A RuntimeError, such as lack of GPU memory, too."""

    def loss(logits, labels):
        if kind == "runtime":
            raise RuntimeError("out of memory on the device")
        return logits.sum() * float("nan")

    monkeypatch.setattr("torch.nn.functional.multilabel_soft_margin_loss", loss)
    train(panel)
    text = panel.job.error.text()
    assert ("Lower optimiser" if kind == "nan" else "out of memory on the device") in text
    assert panel.job.error.isVisibleTo(panel)
    assert panel.state.classifier is None


def test_a_set_with_one_class_disables_the_button(add_panel, tmp_path, qtbot):
    panel = add_panel(TrainClassifierPanel)
    panel.state.set(patch_set=load_patches(write_set(tmp_path / "one", kinds=(0,))))
    qtbot.waitUntil(lambda: "Only one class occurs" in panel.notes.text(), timeout=WAIT)
    assert not panel.job.button.isEnabled()
    assert "Training cannot begin" in panel.job.message.text()


def test_settings_that_do_not_fit_disable_the_button(panel):
    panel.form._rows["depths"].widget.value = "deep"
    assert not panel.job.button.isEnabled()
    assert panel.job.message.text() == "Correct the settings above."


def test_closing_the_viewer_leaves_a_run_to_go_on_with(panel, viewer, qtbot, folder):
    panel.form.set_settings(panel.settings().changed(epochs=500, steps_per_epoch=1))
    panel.inputs_changed()
    qtbot.waitUntil(lambda: panel.job.button.isEnabled(), timeout=WAIT)
    epochs = []
    panel.job.runner.event.connect(lambda e: epochs.append(e) if isinstance(e, EpochEnd) else 0)
    panel.job.button.click()
    qtbot.waitUntil(lambda: bool(epochs), timeout=WAIT)
    runner = panel.job.runner
    viewer.close()
    qtbot.waitUntil(lambda: not runner.running, timeout=WAIT)
    assert state_path(folder / "classifier.safetensors").is_file()


# -- the segmenter ----------------------------------------------------------------------


@pytest.fixture
def segmenter(viewer, add_panel, folder):
    panel = add_panel(TrainSegmenterPanel)
    settings = {**SMALL, "decoder_channels": 16}
    panel.form.set_settings(SegmenterSettings.from_dict(settings))
    panel.state.set(patch_set=load_patches(folder, masks=folder / "masks"))
    return panel


def test_the_segmenter_needs_masks(segmenter, ready, tmp_path, qtbot):
    assert "Make pseudo masks first" in segmenter.job.message.text()
    segmenter.pseudo.path = tmp_path / "nothing"
    qtbot.waitUntil(lambda: "holds no pseudo masks" in segmenter.notes.text(), timeout=WAIT)
    assert not segmenter.job.button.isEnabled()
    segmenter.source.setCurrentText("true masks")
    ready(segmenter)


@pytest.mark.parametrize("later", [False, True])
def test_an_empty_field_of_masks_says_which_are_taken(viewer, add_panel, folder, later):
    state = state_of(viewer)
    panel = None if later else add_panel(TrainSegmenterPanel)
    state.set(patch_set=load_patches(folder, masks=folder / "masks"))
    panel = panel or add_panel(TrainSegmenterPanel)
    assert panel.masks.line.placeholderText() == "Masks of the data set"
    state.set(patch_set=load_patches(folder))
    assert panel.masks.line.placeholderText() == "Folder of masks"


def test_it_learns_from_true_masks_and_shows_held_out_patches(
    segmenter, ready, train, folder, command
):
    segmenter.source.setCurrentText("true masks")
    ready(segmenter)
    train(segmenter)
    out = folder / "segmenter.safetensors"
    assert segmenter.state.segmenter == out
    assert segmenter.run_view.examples.isVisibleTo(segmenter)
    assert "target_iou lines" in segmenter.run_view.curves.history[-1]
    other = folder / "command.safetensors"
    options = ("--masks", folder / "masks", "--set", "decoder_channels=16")
    command("train-segmenter", folder, "--out", other, *options)
    assert out.read_bytes() == other.read_bytes()


def test_it_learns_from_pseudo_masks_of_another_panel(segmenter, ready, train, folder, tmp_path):
    patches = segmenter.state.patch_set
    writer = PseudoMaskWriter(tmp_path / "pseudo", patches.classes, 3)
    for i, name in enumerate(patches.names):
        masks = np.stack([patches.read_mask(i)] * 3)
        writer.write(name, masks, np.full(masks.shape[1:], 255, np.uint8))
    patches.classes.with_index_values().write(tmp_path / "pseudo" / "classes.toml")
    record = {"complete": True, "fingerprint": "f", "depths": 3}
    write_record(tmp_path / "pseudo", record)
    segmenter.state.set(pseudo_masks=tmp_path / "pseudo")
    ready(segmenter)
    train(segmenter)
    info = read_info(folder / "segmenter.safetensors")
    assert info.supervision == "pseudo masks"
    heads = [label.text() for label in segmenter.run_view.examples._heads]
    assert heads == ["patch", "pseudo mask", "after epoch 3"]


def test_masks_and_corrections_of_other_panels_are_offered(segmenter, tmp_path):
    segmenter.state.set(pseudo_masks=tmp_path / "p", corrections=tmp_path / "c")
    assert segmenter.pseudo.path == tmp_path / "p"
    assert segmenter.corrections.path == tmp_path / "c"


def test_tiles_without_labels_are_learnt_from_besides(
    segmenter, ready, train, folder, command, tmp_path, qtbot
):
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    segmenter.source.setCurrentText("true masks")
    segmenter.tiles.path = tiles
    qtbot.waitUntil(lambda: "There are no images below" in segmenter.notes.text(), timeout=WAIT)
    assert not segmenter.job.button.isEnabled()
    noise = np.random.default_rng(3).integers(60, 220, (4, SIDE, SIDE, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tiles / f"{i}.png")
    segmenter.tiles.path = None
    segmenter.tiles.path = tiles
    ready(segmenter)
    train(segmenter)
    other = folder / "command.safetensors"
    options = ("--masks", folder / "masks", "--unlabelled", tiles, "--set", "decoder_channels=16")
    command("train-segmenter", folder, "--out", other, *options)
    assert (folder / "segmenter.safetensors").read_bytes() == other.read_bytes()


def test_what_a_panel_is_for_stands_there_before_anything_is_complete(viewer, add_panel, folder):
    state_of(viewer).set(patch_set=load_patches(folder))
    panel = add_panel(TrainSegmenterPanel)  # which lacks pseudo masks
    assert not panel.job.button.isEnabled()
    assert "Make pseudo masks first" in panel.job.message.text()
    assert panel._guide.text() == TrainSegmenterPanel.purpose
