"""Labelling a slide in the viewer: keys, clicks, strokes, and what is left afterwards."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

pytest.importorskip("qtpy")

from napari_wsss.panels.label import LabelPanel
from napari_wsss.panels.label_keys import class_key
from napari_wsss.panels.label_layer import _DARK as DARK
from napari_wsss.panels.label_layer import cell_pixels
from napari_wsss.panels.support.work import wait_for_jobs
from napari_wsss.patches import LEFT_OUT, PatchReader, label_files, read_labels

MPP = 0.5


@pytest.fixture
def write_slide(tmp_path):
    """Write a slide: stained all over but for white at the right; each patch differs."""

    def write(name="case", seed=0):
        rng = np.random.default_rng(seed)
        pixels = np.full((200, 320, 3), (180, 90, 160), np.uint8)
        pixels += rng.integers(0, 40, pixels.shape, np.uint8)
        pixels[:, 240:] = 250
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(
            path, pixels, photometric="rgb", resolution=(1e4 / MPP,) * 2, resolutionunit=3
        )
        return path

    return write


@pytest.fixture
def panel(viewer, add_panel, write_slide, tmp_path):
    viewer.open(str(write_slide()), plugin="napari-wsss")
    panel = add_panel(LabelPanel)
    panel.folder.path = tmp_path / "work"
    panel.form.patch_um.setValue(20)
    return panel


def start(panel):
    panel.start()
    assert wait_for_jobs(20, cancel=False)
    assert panel.session is not None, panel.begin.error.text()
    return panel.session


def press(viewer, *keys):
    """Press keys as if on the canvas."""
    from napari.utils.key_bindings import KeymapHandler

    viewer = getattr(viewer, "__wrapped__", viewer)
    handler = KeymapHandler()
    active = viewer.layers.selection.active
    handler.keymap_providers = [viewer] if active is None else [active, viewer]
    for key in keys:
        handler.press_key(key)


def drag(viewer, session, *points, modifiers=()):
    """Drag the mouse over (row, column) of the grid, through napari's callbacks."""
    from types import SimpleNamespace

    step = np.array(session.grid.step_px)

    def at(point):
        return tuple((np.array(point) * step - 0.5) * MPP)

    event = SimpleNamespace(
        type="mouse_press", button=1, modifiers=modifiers, position=at(points[0])
    )
    viewer = getattr(viewer, "__wrapped__", viewer)
    for callback in list(viewer.mouse_drag_callbacks):
        generator = callback(viewer, event)
        if next(generator, "end") == "end":
            continue
        event.type = "mouse_move"
        for point in points[1:]:
            event.position = at(point)
            next(generator, None)
        event.type = "mouse_release"
        next(generator, None)


def test_the_grid_lies_on_the_slide_to_the_pixel(panel, viewer):
    session = start(panel)
    layer, slide = panel.hand.grid.layer, panel.form.chooser.layer
    assert session.grid.step_px == pytest.approx((40, 40))
    q = cell_pixels(session.grid)
    # The outer corners of patch (2, 3): of its first and its last pixel in the drawing.
    first = np.array(layer.data_to_world((2 * q - 0.5, 3 * q - 0.5)))
    last = np.array(layer.data_to_world((3 * q - 0.5, 4 * q - 0.5)))
    np.testing.assert_allclose(slide.world_to_data(first), (79.5, 119.5), atol=1e-9)
    np.testing.assert_allclose(slide.world_to_data(last), (119.5, 159.5), atol=1e-9)
    assert tuple(map(str, layer.units)) == tuple(map(str, slide.units)) == ("micrometer",) * 2
    session.current = 2 * session.grid.columns + 3
    panel.hand.grid.point_at(session.current, follow=True)
    frame = np.argwhere(np.asarray(layer.data) == DARK)
    assert frame.min(0).tolist() == [2 * q, 3 * q]
    assert frame.max(0).tolist() == [3 * q - 1, 4 * q - 1]
    np.testing.assert_allclose(
        slide.world_to_data(viewer.scene.camera.center[-2:]), (99.5, 139.5), atol=1e-6
    )
    pixels = np.asarray(slide.data)[80:120, 120:160]
    np.testing.assert_array_equal(
        PatchReader(session.slide, session.grid)(session.current), pixels
    )


def test_a_shifted_slide_takes_its_grid_along(panel, viewer):
    panel.form.chooser.layer.translate = (100, -30)
    session = start(panel)
    np.testing.assert_allclose(
        panel.hand.grid.place((100 - MPP / 2 + 20, -30 - MPP / 2 + 40)), (1, 2), atol=1e-9
    )
    assert session.grid.rows == 5


def test_only_tissue_is_offered(panel):
    session = start(panel)
    offered = session.offered.reshape(session.grid.rows, session.grid.columns)
    assert offered[:, :6].all()
    assert not offered[:, 6:].any()


def test_keys_label_move_and_undo(panel, viewer):
    session = start(panel)
    session.current = 9
    press(viewer, "A", "S")
    assert session.labels.codes[9] == 0b11
    press(viewer, "A")
    assert session.labels.codes[9] == 0b10
    press(viewer, "Right", "Down")
    assert session.current == 9 + 1 + session.grid.columns
    press(viewer, "Shift-D")
    labelled = 9 + 1 + session.grid.columns
    assert session.labels.codes[labelled] == 0b100
    assert session.current != labelled
    assert session.labels.codes[session.current] == 0
    out = session.current
    press(viewer, "B")
    assert session.labels.codes[out] == LEFT_OUT
    press(viewer, "Ctrl-Z")
    assert session.labels.codes[out] == 0
    assert session.current == out
    press(viewer, "Ctrl-Shift-Z")
    assert session.labels.codes[out] == LEFT_OUT
    press(viewer, "Delete")
    assert session.labels.codes[out] == 0
    stored = read_labels(session.file.path)
    np.testing.assert_array_equal(stored.codes, session.labels.codes)


def test_next_never_shows_a_patch_twice_and_ends(panel, viewer):
    session = start(panel)
    seen = []
    for _ in range(int(session.offered.sum())):
        seen.append(session.current)
        press(viewer, "Shift-A")
    assert sorted(seen) == np.flatnonzero(session.offered).tolist()
    assert session.next() is None
    press(viewer, "N")
    assert "30 of 30 labelled" in panel.board.progress.text()


def test_keys_are_the_panels_only_while_it_is_in_front(panel, viewer):
    called = []
    viewer.bind_key("A", lambda _: called.append(1), overwrite=True)
    session = start(panel)
    press(viewer, "A")
    assert not called
    before = session.labels.codes.copy()
    panel.hide()
    press(viewer, "A", "S", "Ctrl-Z")
    assert called == [1]
    np.testing.assert_array_equal(session.labels.codes, before)
    assert DARK not in panel.hand.grid.layer.data
    panel.show()
    press(viewer, "S")
    assert session.labels.codes[session.current] == before[session.current] ^ 0b10
    panel.hide()


def test_a_click_chooses_and_a_button_labels(panel, viewer):
    session = start(panel)
    drag(viewer, session, (2.5, 3.5))
    assert session.current == 2 * session.grid.columns + 3
    panel.board.buttons.pressed.emit(1)
    assert session.labels.codes[session.current] == 0b10
    drag(viewer, session, (0.5, 0.5), (3.5, 3.5))  # moves the view, no label
    assert session.labels.decided.tolist() == [session.current]
    drag(viewer, session, (99, 99))
    assert session.labels.decided.tolist() == [session.current]


def test_painting_over_many_is_one_step_and_leaves_no_gap(panel, viewer):
    session = start(panel)
    panel.board.many.setChecked(True)
    assert not panel.hand.grid.layer.mouse_pan
    press(viewer, "A", "D")  # of the brush: tumour off, lymphocytes on
    drag(viewer, session, (1.5, 0.5), (1.5, 7.5), (3.5, 7.5))
    row = session.grid.columns
    assert session.labels.labelled.tolist() == [row + c for c in range(6)]  # tissue only
    assert set(session.labels.codes[session.labels.labelled].tolist()) == {0b100}
    drag(viewer, session, (2.5, 0.5))
    press(viewer, "Ctrl-Z")
    press(viewer, "Ctrl-Z")
    assert not session.labels.can_undo
    assert not session.labels.codes.any()
    panel.board.one.setChecked(True)
    assert panel.hand.grid.layer.mouse_pan


def test_a_stroke_that_changes_nothing_at_first_is_a_step_of_its_own(panel, viewer):
    session = start(panel)
    session.labels.assign([0], 1)
    panel.board.many.setChecked(True)
    drag(viewer, session, (0.5, 0.5), (0.5, 1.5))
    panel.hand.do("undo")
    assert session.labels.labelled.tolist() == [0]


def test_shift_drag_gives_the_label_of_the_framed_patch(panel, viewer):
    session = start(panel)
    session.current = 0
    press(viewer, "S")
    drag(viewer, session, (1.5, 1.5), (1.5, 3.5), modifiers=("Shift",))
    row = session.grid.columns
    assert session.labels.labelled.tolist() == [0, row + 1, row + 2, row + 3]


def test_several_classes_are_visible_in_a_patch(panel):
    session = start(panel)
    session.labels.assign([0], 0b11)
    session.labels.assign([1], 0b1111)
    panel.hand.grid.redraw(np.array([0, 1]))
    q = cell_pixels(session.grid)
    data = np.asarray(panel.hand.grid.layer.data)
    assert {1, 2} <= set(np.unique(data[:q, :q]))
    assert {1, 2, 3, 4} <= set(np.unique(data[:q, q : 2 * q]))
    assert data[q // 2, q // 2 + 1] == 0  # the tissue stays in sight


def test_classes_are_added_renamed_recoloured_and_removed(panel):
    session = start(panel)
    panel.board.add_requested.emit("fat")
    panel.board.buttons.renamed.emit(0, "cancer")
    panel.board.buttons.recolored.emit(0, "#123456")
    panel.board.buttons.removed.emit(1)
    names = ("cancer", "lymphocytes", "necrosis", "fat")
    assert session.labels.classes.names == names
    assert read_labels(session.file.path).classes.names == names
    layer = panel.hand.grid.layer
    np.testing.assert_allclose(
        layer.colormap.map(1), np.array([0x12, 0x34, 0x56, 255]) / 255, atol=1e-3
    )
    assert "cancer" in list(layer.features["class"])
    panel.board.add_requested.emit("fat")
    assert "occurs twice" in panel.begin.error.text()
    assert session.labels.classes.names == names


def test_after_the_17th_class_keys_come_in_pairs(panel, viewer):
    session = start(panel)
    press(viewer, "O")
    assert not panel.hand.further, "with few classes it means nothing"
    for i in range(4, 20):
        panel.board.add_requested.emit(f"class {i}")
    assert class_key(16) == "P"
    assert class_key(19) == "O D"
    cell = session.current
    press(viewer, "O")
    assert "second key" in panel.board.hint.text()
    press(viewer, "D")
    assert session.labels.codes[cell] == 1 << 19
    assert panel.board.hint.text() == "This patch: class 19"
    press(viewer, "D")
    assert session.labels.codes[cell] == 1 << 19 | 1 << 2
    press(viewer, "O", "O", "A")
    assert session.labels.codes[cell] == 1 << 19 | 1 << 2 | 1
    press(viewer, "O", "Shift-S")
    assert session.labels.codes[cell] == 1 << 18
    assert session.current != cell
    press(viewer, "O", "Right", "A")
    assert session.labels.codes[session.current] == 1, "moving on takes it back"
    press(viewer, "O", "F")
    assert session.labels.codes[session.current] == 1, "there is no such class"


def test_data_set_of_all_slides_becomes_the_state(panel, viewer, write_slide):
    session = start(panel)
    session.labels.assign([0, 1], 1)
    panel.hand.do("next")
    assert not panel.make.button.isEnabled()
    session.labels.assign([2], 2)
    viewer.open(str(write_slide("second", seed=1)), plugin="napari-wsss")
    panel.form.chooser.layer = viewer.layers["second"]
    assert panel.session is None
    second = start(panel)
    second.labels.assign([3], 2)
    second.labels.assign([4], 1)
    panel.hand.changed.emit()
    panel.make.requested.emit()
    assert wait_for_jobs(20, cancel=False)
    patches = panel.state.patch_set
    assert patches is not None, panel.make.error.text()
    assert set(patches.groups) == {"case", "second"}
    assert len(patches) == 5
    assert patches.mpp == MPP
    first = panel.state.patch_set.root
    panel.make.requested.emit()
    assert wait_for_jobs(20, cancel=False)
    assert panel.state.patch_set.root != first


def test_labels_are_there_again_after_closing(panel, viewer, add_panel):
    session = start(panel)
    session.labels.assign([3], 0b101)
    folder = panel.folder.path
    panel.close()
    assert [layer.name for layer in viewer.layers] == ["case"]
    again = add_panel(LabelPanel)
    again.folder.path = folder
    again.form.patch_um.setValue(20)
    assert start(again).labels.codes[3] == 0b101
    assert len(label_files(folder / "labels")) == 1


@pytest.mark.parametrize("which", ["slide", "grid"])
def test_deleted_layers_lose_nothing(panel, viewer, which):
    session = start(panel)
    press(viewer, "A")
    labelled = session.current
    slide, grid = panel.form.chooser.layer, panel.hand.grid.layer
    layer = {"slide": slide, "grid": grid}[which]
    viewer.layers.remove(layer)
    assert read_labels(session.file.path).codes[labelled] == 1
    assert panel.session is None
    assert not any(name.startswith("patches of") for name in map(str, viewer.layers))
    press(viewer, "A", "N", "Ctrl-Z")
    assert panel.begin.button.isEnabled() == (which == "grid")
    if which == "grid":
        assert start(panel).labels.codes[labelled] == 1


def test_slide_removed_while_tissue_is_looked_for(panel, viewer):
    panel.start()
    viewer.layers.clear()
    assert wait_for_jobs(20, cancel=False)
    assert panel.session is None
    assert "Open a slide" in panel.begin.message.text()


def test_another_size_keeps_the_labels_of_the_first(panel):
    session = start(panel)
    session.labels.assign([1], 1)
    panel.form.patch_um.setValue(40)
    assert panel.begin.isVisible()
    other = start(panel)
    assert not other.labels.codes.any()
    panel.form.patch_um.setValue(20)
    assert start(panel).labels.codes[1] == 1


def test_two_windows_do_not_label_one_slide(panel, viewer, add_panel):
    start(panel)
    second = add_panel(LabelPanel)
    second.folder.path = panel.folder.path
    second.form.patch_um.setValue(20)
    second.start()
    assert wait_for_jobs(20, cancel=False)
    assert second.session is None
    assert "another window" in second.begin.error.text()


def test_an_image_without_resolution_asks_for_it(viewer, add_panel, tmp_path):
    rng = np.random.default_rng(0)
    viewer.add_image(rng.integers(60, 160, (200, 200, 3), dtype=np.uint8), name="plain")
    panel = add_panel(LabelPanel)
    panel.folder.path = tmp_path
    assert not panel.begin.button.isEnabled()
    assert "µm" in panel.begin.message.text()
    panel.form.slide_mpp.setValue(0.5)
    panel.form.patch_um.setValue(20)
    session = start(panel)
    assert session.grid.rows == 5
    session.labels.assign([0], 1)
    session.labels.assign([1], 2)
    panel.hand.changed.emit()
    panel.make.requested.emit()
    assert wait_for_jobs(20, cancel=False)
    assert len(panel.state.patch_set) == 2


def test_most_different_patches_are_suggested(panel, viewer):
    session = start(panel)
    panel.how.setCurrentText("most uncertain")
    panel.how.activated.emit(1)
    assert not panel.look.button.isEnabled()
    panel.how.setCurrentText("most different")
    panel.how.activated.emit(2)
    session.labels.assign([0], 1)
    panel.look.requested.emit()
    assert wait_for_jobs(60, cancel=False)
    assert not panel.look.error.text()
    assert len(session.suggested) == 28
    order = list(session.suggested)
    press(viewer, "N")
    assert session.current == order[0]
    session.labels.assign([order[1]], 1)
    press(viewer, "N")
    assert session.current == order[2]


def test_keys_work_after_a_click_in_the_panel(panel, viewer, qtbot):
    from qtpy.QtCore import Qt

    session = start(panel)
    qtbot.keyClick(panel, Qt.Key.Key_S)
    assert session.labels.codes[session.current] == 0b10
    qtbot.keyClick(panel, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert not session.labels.codes.any()
    qtbot.keyClick(panel, Qt.Key.Key_D, Qt.KeyboardModifier.ShiftModifier)
    assert session.labels.counts().tolist() == [0, 0, 1, 0]
    qtbot.keyClick(panel.board.name, Qt.Key.Key_A)  # typing a name labels nothing
    assert session.labels.counts().sum() == 1


def test_a_disk_that_is_full_is_said_and_the_label_is_not_lost(panel, viewer, monkeypatch):
    from pathlib import Path

    session = start(panel)
    session.current = 0
    with monkeypatch.context() as m:
        m.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
        press(viewer, "A")
    assert "full" in panel.begin.error.text()
    assert panel.begin.error.isVisible()
    press(viewer, "Right", "A")
    assert read_labels(session.file.path).codes[:2].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("um", "mpp", "reason"),
    [
        (5, 20, "a side of 0 px; 8 to 8192 px"),
        (5, 1, "a side of 5 px; 8 to 8192 px"),
        (5000, 0.5, "a side of 10000 px; 8 to 8192 px"),
        (4000, 1, "no patch of 4000 µm fits"),
    ],
)
def test_sizes_that_cannot_be_are_said_before(panel, um, mpp, reason):
    assert panel.begin.button.isEnabled()
    panel.form.patch_um.setValue(um)
    panel.form.patch_mpp.setValue(mpp)
    assert reason in panel.begin.message.text()
    assert not panel.begin.button.isEnabled()
    panel.form.patch_um.setValue(32)
    panel.form.patch_mpp.setValue(1)
    assert panel.begin.button.isEnabled()


def test_an_image_that_is_no_slide_is_named(viewer, add_panel):
    panel = add_panel(LabelPanel)
    assert "Open a slide first" in panel.begin.message.text()
    viewer.add_image(np.zeros((200, 200), np.uint8), name="grey")
    assert "grey is not an RGB image" in panel.begin.message.text()
    assert not panel.begin.button.isEnabled()
