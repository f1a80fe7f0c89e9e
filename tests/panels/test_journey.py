"""The whole way in the viewer, as a user goes it: from a slide to a corrected segmentation.

On the synthetic slide, and on a real one where there is one. It trains for seconds only, so
the results are poor on purpose; set WSSS_SCREENSHOTS to a folder to train for minutes and keep
pictures of every step, which are those of the documentation.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("qtpy")

from PIL import Image
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QMessageBox, QScrollArea

from napari_wsss.classes import IGNORE
from napari_wsss.inference import SlideSegmentation, verify_result
from napari_wsss.jobs import BlockDone, EpochEnd
from napari_wsss.models import load_classifier, load_segmenter
from napari_wsss.panels.cams import CamPanel
from napari_wsss.panels.correct import CorrectPanel
from napari_wsss.panels.dataset import DatasetPanel
from napari_wsss.panels.label import LabelPanel
from napari_wsss.panels.label_keys import CLASS_KEYS
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.state import state_of
from napari_wsss.panels.support.work import wait_for_jobs
from napari_wsss.panels.train_classifier import TrainClassifierPanel
from napari_wsss.panels.train_segmenter import TrainSegmenterPanel
from napari_wsss.patches import PatchReader
from napari_wsss.samples import synthetic_slide
from napari_wsss.settings import ClassifierSettings, SegmenterSettings
from napari_wsss.slides import open_slide

PICTURES = os.environ.get("WSSS_SCREENSHOTS")
PANELS = (
    DatasetPanel, LabelPanel, TrainClassifierPanel, CamPanel,
    TrainSegmenterPanel, SegmentPanel, CorrectPanel,
)  # fmt: skip
#: Seconds for one step; a machine that tests is often busy.
LONG = 280 if not PICTURES else 3000
COMMON = {
    "encoder": {"upscale": 1.0},
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 8,
    "precision": "fp32",
}
THOROUGH = {"epochs": 10, "steps_per_epoch": 20, "batch_size": 12}


class Journey:
    """A viewer with all panels, and what a user does with it."""

    def __init__(self, viewer, qtbot, folder: Path, name: str):
        self.viewer, self.qtbot, self.folder, self.name = viewer, qtbot, folder, name
        self.state = state_of(viewer)
        self.panels = {}
        for kind in PANELS:
            panel = kind(viewer)
            viewer.window.add_dock_widget(panel, name=panel.title, area="right")
            self.panels[kind] = panel
        qtbot.wait(10)
        window = panel.window()
        window.resize(1500, 940)
        window.resizeDocks([panel._dock()], [372], Qt.Orientation.Horizontal)

    def go_to(self, kind):
        panel = self.panels[kind]
        panel._dock().raise_()
        self.qtbot.wait(50)
        return panel

    def wait(self, until):
        self.qtbot.waitUntil(until, timeout=LONG * 1000)

    def press(self, job):
        """Press the button of a job as soon as it can be pressed."""
        self.wait(lambda: job.button.isEnabled() and not job.runner.running)
        QTest.mouseClick(job.button, Qt.MouseButton.LeftButton)
        self.wait(lambda: job.runner.running)

    def finish(self, job):
        self.wait(lambda: not job.runner.running)
        assert job.error.text() == ""
        self.qtbot.wait(300)

    def picture(self, step: str):
        """Keep what the screen shows; of the synthetic slide as the documentation has it."""
        if not PICTURES:
            return
        folder = Path(PICTURES)
        folder.mkdir(parents=True, exist_ok=True)
        names = {"light": f"light-{step}.png", "dark": f"napari-{step}.png"}
        if self.name != "synthetic":
            names = {theme: f"{self.name}-{name}" for theme, name in names.items()}
        for theme, name in names.items():
            self.viewer.theme = theme
            self.qtbot.wait(900)
            pixels = self.viewer.screenshot(canvas_only=False, flash=False)
            Image.fromarray(pixels[..., :3]).save(folder / name, optimize=True)


def settings_of(model, **more):
    changes = {**COMMON, **(THOROUGH if PICTURES else {}), **more}
    return model.from_dict(changes)


def region_with_tissue(labels):
    """Return the rectangle (y, x, height, width) of up to 260 x 240 px that is fullest."""
    height, width = (min(side, n) for side, n in zip((260, 240), labels.shape, strict=True))
    sums = np.pad((labels > 0).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    full = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width]
    full += sums[:-height, :-width]
    top, left = np.unravel_index(full.argmax(), full.shape)
    return int(top), int(left), height, width


# -- what a person would see in a patch -----------------------------------------------------


def labels_by_truth(truth, step, classes):
    """Return a function from cell (row, column) to the keys of the classes in it."""

    def keys(row, column, _pixels):
        y, x = (round(v) for v in (row * step[0], column * step[1]))
        window = truth[y : y + round(step[0]), x : x + round(step[1])]
        found = window[window != IGNORE]
        counts = np.bincount(found, minlength=classes) / max(found.size, 1)
        return [CLASS_KEYS[k] for k in np.flatnonzero(counts >= 0.05)]

    return keys


def labels_by_look(_row, _column, pixels):
    """Tell dark, blue tissue from pale, red tissue: two classes of a real slide."""
    values = pixels.reshape(-1, 3).astype(int)
    tissue = values.min(1) < 210
    blue = tissue & (values[:, 2] > values[:, 0] - 5)
    share = blue.sum() / max(tissue.sum(), 1)
    return [CLASS_KEYS[0]] if share > 0.6 else [CLASS_KEYS[1]] if share < 0.3 else CLASS_KEYS[:2]


@pytest.fixture
def cases(tmp_path, request):
    """Slide file, µm of a patch and µm/px of the patches, and what a person sees, by name."""

    def synthetic():
        slide = synthetic_slide((1024, 1280) if not PICTURES else (2048, 2560), seed=5)
        slide.save(tmp_path / "drawn")
        path = (tmp_path / "drawn" / "slide.tif").rename(tmp_path / "synthetic slide.tif")
        size = 64.0
        step = (size / slide.mpp,) * 2
        return path, size, 1.0, labels_by_truth(slide.truth, step, len(slide.classes))

    def real():
        data = request.getfixturevalue("data")
        return data / "slides" / "cmu-1-small-region.svs", 80.0, 1.0, labels_by_look

    return {"synthetic": synthetic, "svs": real}


@pytest.mark.timeout(3600 if PICTURES else 600)
@pytest.mark.parametrize("name", ["synthetic", "svs"])
def test_from_a_slide_to_a_corrected_segmentation(
    viewer, qtbot, tmp_path, cases, name, monkeypatch
):
    path, patch_um, mpp, see = cases[name]()
    work = tmp_path / "work"
    if PICTURES:  # which show where it is
        work = Path(PICTURES) / "lung study" / name
        shutil.rmtree(work, ignore_errors=True)
    trip = Journey(viewer, qtbot, tmp_path, name)
    monkeypatch.setattr(QMessageBox, "exec", lambda *a, **k: pytest.fail("asked something"))

    # Open.
    viewer.open(str(path), plugin="napari-wsss")
    trip.state.set(folder=work)
    assert viewer.layers[0].scale[0] == pytest.approx(open_slide(path).mpp)

    # Label 40 patches by keyboard.
    label = trip.go_to(LabelPanel)
    label.form.patch_um.setValue(patch_um)
    label.form.patch_mpp.setValue(mpp)
    trip.press(label.begin)
    trip.wait(lambda: label.session is not None)
    session = label.session
    reader = PatchReader(session.slide, session.grid)
    wanted = 40 if not PICTURES else 90
    for done in range(wanted):
        cell = session.current
        row, column = divmod(cell, session.grid.columns)
        for key in see(row, column, reader(cell)):
            QTest.keyClick(label, getattr(Qt.Key, f"Key_{key}"))
        if done == 39:
            trip.picture("label")
        QTest.keyClick(label, Qt.Key.Key_N)
    assert len(session.labels.labelled) >= wanted - 2  # a patch of glass alone has no class
    before = session.labels.codes.copy()
    QTest.keyClick(label, Qt.Key.Key_A)
    QTest.keyClick(label, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    np.testing.assert_array_equal(session.labels.codes, before)
    trip.press(label.make)
    trip.finish(label.make)
    patches = trip.state.patch_set
    assert len(patches) == len(session.labels.labelled)
    assert patches.mpp == mpp

    # Look the data set over; the grid makes room for the slide.
    panel = trip.go_to(DatasetPanel)
    assert not label.hand.grid.layer.visible
    viewer.reset_view()
    wait_for_jobs(LONG, cancel=False)
    trip.picture("data-set")
    seen = [layer.name for layer in viewer.layers if layer.visible]
    QTest.mouseClick(panel.gallery.button, Qt.MouseButton.LeftButton)
    trip.wait(lambda: panel.gallery.layer is not None)
    qtbot.wait(300)
    trip.picture("gallery")
    QTest.mouseClick(panel.gallery.button, Qt.MouseButton.LeftButton)
    assert [layer.name for layer in viewer.layers if layer.visible] == seen

    # Train the classifier.
    panel = trip.go_to(TrainClassifierPanel)
    panel.form.set_settings(settings_of(ClassifierSettings))
    panel.form.changed.emit()
    ends = []
    panel.job.runner.event.connect(lambda e: ends.append(e) if isinstance(e, EpochEnd) else None)
    trip.press(panel.job)
    trip.finish(panel.job)
    assert len(ends) >= 2
    trip.picture("train-classifier")
    classifier = load_classifier(trip.state.classifier)
    assert classifier.classes.names == patches.classes.names

    # Look at class maps, and make the pseudo masks.
    cams = trip.go_to(CamPanel)
    before_maps = [layer.name for layer in viewer.layers if layer.visible]
    several = np.flatnonzero(~patches.single_label)
    trip.wait(lambda: cams.look.button.isEnabled())
    cams.patches.index = int(several[0])
    if not cams.look.runner.running and not cams.grid.showing:
        trip.press(cams.look)
    trip.wait(lambda: cams.grid.showing and not cams.look.runner.running)
    trip.picture("class-maps")
    layers = set(viewer.layers)
    cams.view.threshold.setValue(0.4)
    qtbot.wait(50)
    assert set(viewer.layers) == layers
    trip.press(cams.masks.work)
    trip.finish(cams.masks.work)
    assert trip.state.pseudo_masks is not None

    # Train the segmenter.
    panel = trip.go_to(TrainSegmenterPanel)
    assert not cams.grid.showing
    assert [layer.name for layer in viewer.layers if layer.visible] == before_maps
    panel.form.set_settings(settings_of(SegmenterSettings))
    panel.form.changed.emit()
    trip.press(panel.job)
    trip.finish(panel.job)
    assert panel.run_view.examples.isVisibleTo(panel)
    panel.findChild(QScrollArea).ensureWidgetVisible(panel.run_view.examples)
    trip.picture("train-segmenter")
    assert load_segmenter(trip.state.segmenter).info.supervision == "pseudo masks"

    # Segment, cancel, go on.
    segment = trip.go_to(SegmentPanel)
    segment.form.set_settings(segment.form.settings().changed(block_px=512))
    segment.form.changed.emit()
    blocks = []

    def first_block(event):
        if isinstance(event, BlockDone) and not blocks:
            blocks.append(event)
            QTest.mouseClick(segment.job.button, Qt.MouseButton.LeftButton)

    segment.job.runner.event.connect(first_block)
    trip.press(segment.job)
    trip.finish(segment.job)
    assert trip.state.result is None, "it ended before it could be stopped"
    trip.picture("stopped")
    trip.wait(lambda: segment.job.button.text().startswith("Go on"))
    trip.press(segment.job)
    trip.finish(segment.job)
    result = SlideSegmentation.open(trip.state.result)
    assert verify_result(result.path) == []
    viewer.reset_view()
    trip.picture("segmented")

    # Export.
    written = {}
    for kind, button in segment.exports.buttons.items():
        trip.wait(button.isEnabled)
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
        trip.wait(lambda: segment.exports.job.message.text().startswith("Written"))
        trip.finish(segment.exports.job)
        written[kind] = Path(segment.exports.job.message.text().removeprefix("Written: "))
        segment.exports.job.clear()
    assert json.loads(written["geojson"].read_text())["type"] == "FeatureCollection"
    assert written["picture"].stat().st_size > 10_000

    # Correct a region; the areas follow.
    correct = trip.go_to(CorrectPanel)
    trip.wait(lambda: correct.take_view.isEnabled())
    top, left, height, width = region_with_tissue(np.asarray(result.labels[:]))
    correct.open_region((top, left, height, width))
    trip.wait(lambda: correct.session is not None)
    layer = correct.session.layer
    layer.selected_label = 1
    layer.brush_size = 60
    for x in range(60, 160, 20):
        layer.paint((100, x), 1)
    viewer.scene.camera.zoom *= 2.5
    viewer.scene.camera.center = (0, *layer.data_to_world((120, 140)))
    trip.picture("correct")
    old = SlideSegmentation.open(result.path).summary()["classes"][1]["pixels"]
    trip.press(correct.write)
    trip.finish(correct.write)
    changed = SlideSegmentation.open(result.path)
    counts = np.bincount(np.asarray(changed.labels[:]).reshape(-1), minlength=3)
    assert changed.summary()["classes"][1]["pixels"] == counts[1] >= old
    assert (np.asarray(changed.labels[top + 100, left + 70 : left + 150]) == 1).all()
    assert verify_result(result.path) == []
