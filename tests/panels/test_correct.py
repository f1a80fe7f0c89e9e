"""The panel of corrections, used as a person would."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent

from napari_wsss.inference import (
    SlideSegmentation,
    correct_region,
    corrections_of,
    segment_slide,
    verify_result,
)
from napari_wsss.inference.change import locked
from napari_wsss.inference.drafts import draft_places
from napari_wsss.panels.correct import CorrectPanel
from napari_wsss.panels.correct_region import clipped
from napari_wsss.panels.support.layers import image_layer
from napari_wsss.panels.support.live import LiveResult, Place
from napari_wsss.panels.support.shown_results import result_of
from napari_wsss.panels.support.state import state_of
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide
from napari_wsss.training import read_corrections

WAIT = 20_000
REGION = (100, 140, 220, 260)


@pytest.fixture(scope="module")
def pixels():
    blocks = np.random.default_rng(1).integers(0, 256, (84, 88, 3), np.uint8)
    return blocks.repeat(16, 0).repeat(16, 1)


@pytest.fixture(scope="module")
def made(pixels, tmp_path_factory, small_segmenter):
    settings = InferenceSettings(tissue_only=False, precision="fp32", gate=False)
    slide = open_slide(pixels, mpp=0.5, name="a")  # results have 2 x 2 pixels of the slide each
    out = tmp_path_factory.mktemp("made")
    return segment_slide(slide, small_segmenter(1.0), out, settings).path


@pytest.fixture
def path(made, tmp_path):
    shutil.copytree(made, tmp_path / "a.ome.zarr")
    return tmp_path / "a.ome.zarr"


@pytest.fixture
def panel(viewer, add_panel, path, pixels, qtbot):
    """The panel in a viewer with the slide and its result, opened from the file."""
    data, options, _ = image_layer([pixels, pixels[::2, ::2]], "a", 0.5)
    viewer.add_image(data, **options)
    viewer.open(str(path), plugin="napari-wsss")
    panel = add_panel(CorrectPanel)
    qtbot.waitUntil(panel.draw.isEnabled, timeout=WAIT)
    return panel


def opened(panel, qtbot, region=REGION):
    panel.open_region(region)
    qtbot.waitUntil(lambda: panel.session is not None, timeout=WAIT)
    return panel.session.layer


def stroke(layer, label, y=50, x=60):
    layer.selected_label = label
    layer.brush_size = 31
    layer.paint((y, x), label)


def write(panel, qtbot):
    qtbot.waitUntil(panel.write.button.isEnabled, timeout=WAIT)
    with qtbot.waitSignal(panel.write.runner.ended, timeout=WAIT):
        panel.write.button.click()


def result_layer(viewer):
    return next(layer for layer in viewer.layers if result_of(layer) is not None)


def test_paint_is_written_back_and_everything_follows(panel, viewer, path, qtbot):
    before = SlideSegmentation.open(path)
    layer = opened(panel, qtbot)
    np.testing.assert_array_equal(layer.data, before.labels[100:320, 140:400])
    assert not panel.write.button.isEnabled()
    stroke(layer, 1)
    stroke(layer, 2, 150, 90)
    qtbot.waitUntil(panel.write.button.isEnabled, timeout=WAIT)
    assert "Not stored" in panel._guide.text()
    changes = [cells[2].text() for cells in panel.areas._cells.values()]
    assert any(text.startswith("+") for text in changes)
    painted = layer.data.copy()
    write(panel, qtbot)
    after = SlideSegmentation.open(path)
    np.testing.assert_array_equal(after.labels[100:320, 140:400], painted)
    assert verify_result(path) == []
    (line,) = corrections_of(after)
    assert (line.y, line.x, line.height, line.width) == REGION
    for row in after.summary()["classes"][1:]:
        stored, _, change = panel.areas._cells[row["class"]]
        assert (stored.text(), change.text()) == (f"{row['area_mm2']:,.3f}", "")
    assert not panel.write.button.isEnabled()
    assert "Written back" in panel._guide.text()
    for shown, stored in zip(result_layer(viewer).data, after.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(shown), stored[:])


@pytest.mark.parametrize("live", [False, True])
def test_layer_and_result_agree_to_the_pixel_on_screen(panel, viewer, path, qtbot, live):
    if live:
        viewer.layers.remove(result_layer(viewer))
        LiveResult(viewer, path, Place.of(viewer.layers["a"]))
        qtbot.waitUntil(panel.draw.isEnabled, timeout=WAIT)
    layer = opened(panel, qtbot)
    result = result_layer(viewer)
    stripes = np.indices(layer.data.shape)
    wanted = ((stripes[0] // 3 + stripes[1] // 5) % 3 + 1).astype(np.uint8)
    layer.data_setitem(np.nonzero(layer.data != wanted), wanted[layer.data != wanted])
    np.testing.assert_allclose(layer.data_to_world((0, 0)), result.data_to_world(REGION[:2]))
    write(panel, qtbot)
    for other in viewer.layers:
        other.visible = False
    viewer.scene.camera.center = layer.data_to_world((40, 50))
    result.opacity = layer.opacity = 1
    for zoom in (6.7, 0.31):  # pixels of the finest, and of the coarsest level
        viewer.scene.camera.zoom = zoom
        shots = []
        for which in (layer, result):
            which.visible = True
            qtbot.wait(300)
            shots.append(viewer.screenshot(canvas_only=True, flash=False).astype(int))
            which.visible = False
        assert shots[0].std() > 20
        inside = shots[0][..., :3].any(-1)  # the coarsest level shows all of the result
        differ = (shots[0] != shots[1]).any(-1)[inside].mean()
        assert differ < (0.005 if zoom > 1 else 0.6)
    assert viewer.layers.selection is not None


def test_the_coarsest_level_on_screen_follows(panel, viewer, qtbot):
    layer = opened(panel, qtbot, (0, 0, 600, 600))
    result = result_layer(viewer)
    viewer.reset_view()
    viewer.scene.camera.zoom = viewer.scene.camera.zoom / 3
    for other in viewer.layers:
        other.visible = other == result
    result.opacity = 1
    qtbot.wait(300)
    before = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    everything = np.nonzero(layer.data != 1)
    layer.data_setitem(everything, np.full(len(everything[0]), 1, np.uint8))
    write(panel, qtbot)
    layer.visible = False
    qtbot.wait(300)
    after = viewer.screenshot(canvas_only=True, flash=False).astype(int)
    assert (before != after).any(-1).sum() > 500


def test_regions_come_from_drawing_and_from_the_view(panel, viewer, qtbot):
    panel.draw.click()
    shapes = viewer.layers["region to correct"]
    shapes.add_rectangles(np.array([[10.2, 20.2], [10.2, 120.0], [90.4, 120.0], [90.4, 20.2]]))
    qtbot.waitUntil(lambda: panel.session is not None, timeout=WAIT)
    assert panel.session.rect == (11, 21, 80, 100)
    assert "region to correct" not in [layer.name for layer in viewer.layers]
    viewer.reset_view()
    qtbot.wait(200)
    panel.take_view.click()
    qtbot.waitUntil(
        lambda: panel.session is not None and panel.session.rect == (0, 0, 672, 704), timeout=WAIT
    )
    assert draft_places(panel.session.result.path) == []  # nothing was painted on the first


def test_a_view_that_is_too_large(panel, viewer, qtbot, monkeypatch):
    monkeypatch.setattr("napari_wsss.inference.corrections.MAX_REGION_PX", 300)
    viewer.reset_view()
    qtbot.wait(200)
    panel.take_view.click()
    assert "at most 300 x 300" in panel._guide.text()
    assert panel.session is None
    result = result_layer(viewer)
    viewer.scene.camera.center = result.data_to_world((300, 300))
    viewer.scene.camera.zoom = 8
    qtbot.wait(200)
    panel.take_view.click()
    assert "at most" not in panel._guide.text()
    qtbot.waitUntil(lambda: panel.session is not None, timeout=WAIT)
    y, x, height, width = panel.session.rect
    assert (y + height / 2, x + width / 2) == pytest.approx((300, 300), abs=2)
    shown = np.array(viewer.screenshot(canvas_only=True, flash=False).shape[:2])
    np.testing.assert_allclose((height, width), shown / 8, atol=2)  # 8 screen pixels per µm


def test_clipping_takes_pixels_whose_centre_is_inside():
    corners = np.array([[-3.0, 1.4], [4.6, 9.0]])
    assert clipped(corners, (20, 8)) == (0, 2, 5, 6)
    assert clipped(corners + 30, (20, 8)) is None


# -- paint that is not written back ------------------------------------------------------------


def test_paint_outlives_the_panel(panel, viewer, add_panel, path, qtbot):
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    painted = layer.data.copy()
    panel.close_panel()
    assert layer not in viewer.layers
    assert draft_places(path) == [REGION]
    assert verify_result(path) == []
    again = add_panel(CorrectPanel)
    qtbot.waitUntil(again.drafts.isVisible, timeout=WAIT)
    again.drafts.go_on.emit(REGION)
    qtbot.waitUntil(lambda: again.session is not None, timeout=WAIT)
    np.testing.assert_array_equal(again.session.labels, painted)
    assert "shown again" in again._guide.text() or "Not stored" in again._guide.text()
    write(again, qtbot)
    np.testing.assert_array_equal(SlideSegmentation.open(path).labels[100:320, 140:400], painted)
    assert draft_places(path) == []


def test_paint_is_kept_while_one_paints(panel, path, qtbot):
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    qtbot.waitUntil(lambda: draft_places(path) == [REGION], timeout=WAIT)
    panel.discard.click()
    assert draft_places(path) == []
    assert panel.session is None


def test_another_region_keeps_the_paint_of_the_first(panel, path, qtbot):
    stroke(opened(panel, qtbot), 1)
    panel.open_region((0, 0, 80, 80))
    qtbot.waitUntil(
        lambda: panel.session is not None and panel.session.rect == (0, 0, 80, 80), timeout=WAIT
    )
    assert draft_places(path) == [REGION]
    panel.discard.click()
    qtbot.waitUntil(panel.drafts.isVisible, timeout=WAIT)


@pytest.mark.parametrize("which", ["correction", "result", "all"])
def test_layers_deleted_while_one_paints(panel, viewer, path, qtbot, which):
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    if which == "all":
        viewer.layers.clear()
    else:
        viewer.layers.remove(layer if which == "correction" else result_layer(viewer))
    qtbot.wait(50)
    assert draft_places(path) == [REGION]
    assert panel.session is None
    if which != "correction":
        assert "Open a segmented slide" in panel._guide.text()
        state_of(viewer).set(result=path)
        panel.results.show_result.click()
        qtbot.waitUntil(panel.draw.isEnabled, timeout=WAIT)
    qtbot.waitUntil(panel.drafts.isVisible, timeout=WAIT)


def test_the_last_result_is_chosen_unless_another_is_painted_on(panel, viewer, path, qtbot):
    other = shutil.copytree(path, path.with_name("b.ome.zarr"))
    stroke(opened(panel, qtbot), 1)
    viewer.open(str(other), plugin="napari-wsss")
    write(panel, qtbot)
    assert panel.results.path == panel.session.result.path == path
    assert len(corrections_of(SlideSegmentation.open(path))) == 1
    panel.close_region()
    viewer.open(str(path), plugin="napari-wsss")
    viewer.open(str(other), plugin="napari-wsss")
    assert panel.results.path == other


def test_other_results_are_switched_to(panel, viewer, path, qtbot):
    other = path.with_name("b.ome.zarr")
    shutil.copytree(path, other)
    stroke(opened(panel, qtbot), 1)
    viewer.open(str(other), plugin="napari-wsss")
    assert state_of(viewer).result == other
    assert panel.session is not None
    panel.results.layers.layer = next(a for a in viewer.layers if result_of(a) == other)
    assert panel.session is None
    assert draft_places(path) == [REGION]
    qtbot.waitUntil(panel.draw.isEnabled, timeout=WAIT)
    stroke(opened(panel, qtbot), 2)
    write(panel, qtbot)
    assert corrections_of(SlideSegmentation.open(path)) == ()
    assert len(corrections_of(SlideSegmentation.open(other))) == 1


# -- writing that fails, undoing, training -----------------------------------------------------


def test_a_result_that_is_busy_keeps_the_paint(panel, path, qtbot):
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    with locked(path):
        write(panel, qtbot)
        assert "Another process" in panel.write.error.text()
    assert panel.session is not None
    write(panel, qtbot)
    assert len(corrections_of(SlideSegmentation.open(path))) == 1
    assert not panel.write.error.text()


def test_what_somebody_else_wrote_meanwhile_is_shown(panel, path, qtbot):
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    theirs = np.full((10, 10), 2, np.uint8)
    correct_region(SlideSegmentation.open(path), 290, 380, theirs)
    write(panel, qtbot)
    np.testing.assert_array_equal(layer.data[190:200, 240:250], theirs)
    assert not panel.session.painted


def test_the_models_labels_come_back(panel, path, qtbot):
    was = SlideSegmentation.open(path).labels[:]
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    write(panel, qtbot)
    panel.restore.click()
    qtbot.waitUntil(lambda: panel.session.painted, timeout=WAIT)
    layer.undo()
    assert not panel.session.painted
    layer.redo()
    write(panel, qtbot)
    np.testing.assert_array_equal(SlideSegmentation.open(path).labels[:], was)


def test_the_region_joins_the_training_set(panel, viewer, path, qtbot, tmp_path):
    training = panel.training
    assert "Choose a region" in training.work.message.text()
    layer = opened(panel, qtbot)
    stroke(layer, 1)
    qtbot.waitUntil(lambda: "Write back first" in training.work.message.text(), timeout=WAIT)
    write(panel, qtbot)
    assert "Choose a folder" in training.work.message.text()
    training.folder.path = tmp_path / "corrections"
    with qtbot.waitSignal(training.work.runner.ended, timeout=WAIT):
        training.work.button.click()
    assert not training.work.error.text()
    found = read_corrections(tmp_path / "corrections")
    assert len(found) == 20  # 220 x 260 px in patches of 64 px: four rows, five columns
    assert state_of(viewer).corrections == found.root
    assert "Next: learn" in training.work.message.text()


def test_keys_and_brushes(panel, viewer, qtbot):
    layer = opened(panel, qtbot)
    buttons = {b.text(): b for b in panel.tools._classes.buttons()}
    assert list(buttons) == ["gland", "stroma", "fat", "background"]
    buttons["fat"].click()
    assert layer.selected_label == 3
    panel.keyPressEvent(_key(Qt.Key.Key_S, "s"))
    assert layer.selected_label == 2
    assert buttons["stroma"].isChecked()
    panel.keyPressEvent(_key(Qt.Key.Key_N, "n"))
    assert buttons["background"].isChecked()
    brushes = {b.text(): b for b in panel.tools._brushes.buttons()}
    brushes["XL"].click()
    assert (layer.brush_size, layer.mode) == (150, "paint")
    brushes["Fill"].click()
    assert layer.mode == "fill"
    layer.mode = "paint"
    layer.brush_size = 5
    assert brushes["S"].isChecked()


def _key(key, text):
    return QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier, text)


def test_leaving_the_panel_gives_up_the_drawing(panel, viewer, qtbot):
    names, selected = [a.name for a in viewer.layers], set(viewer.layers.selection)
    panel.draw.click()
    assert viewer.layers.selection.active.mode == "add_rectangle"
    panel.hide()
    assert [a.name for a in viewer.layers] == names
    assert viewer.layers.selection == selected
    panel.show()
    assert "Draw a rectangle" not in panel._guide.text()
    panel.draw.click()
    viewer.layers["region to correct"].add_rectangles(
        np.array([[10.2, 20.2], [10.2, 120.0], [90.4, 120.0], [90.4, 20.2]])
    )
    qtbot.waitUntil(lambda: panel.session is not None, timeout=WAIT)
