"""Class maps of regions of a slide."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt

from napari_wsss.cams import read_region
from napari_wsss.panels.cams_work import region_options
from napari_wsss.panels.support.live import Place
from napari_wsss.slides import open_slide

WAIT = 20_000


def test_a_region_lies_pixel_for_pixel_on_its_slide(
    viewer, slide, ready, qtbot, pixels, edges, draw
):
    draw(ready, slide, 31.5, 63.5, 191.5, 223.5)
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    under, over = ready.grid.layers[:2]
    assert under.data.shape == (80, 80, 3)  # half the resolution
    assert tuple(over.scale) == tuple(under.scale) == (1.0, 1.0)
    for layer in ready.grid.layers:
        np.testing.assert_allclose(edges(layer), edges(under))
    drawn = [slide.data_to_world(p) for p in ((31.5, 63.5), (191.5, 223.5))]
    np.testing.assert_allclose(edges(under), drawn)


def test_a_region_is_drawn_where_its_slide_is(viewer, slide, pixels, qtbot):
    region = read_region(open_slide([pixels], mpp=0.5), 1.0, 32, 64, 160, 160)
    options = region_options(region, Place.of(slide))
    middle = np.array(options["translate"]) + 79 / 2  # of 80 x 80 px of 1 µm
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, *middle), 12
    shots = []
    for over in (False, True):
        if over:
            viewer.add_image(region.image, rgb=True, **options)
        qtbot.wait(100)
        shots.append(viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int))
    height, width = shots[0].shape[:2]
    part = np.s_[height // 2 - 150 : height // 2 + 150, width // 2 - 150 : width // 2 + 150]
    first, second = (shot[part].sum(2) for shot in shots)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8
    # Half a pixel of the slide is 3 pixels of this picture, half a one of the region 6.
    assert max(np.abs(shift_between(first, second))) <= 1


def shift_between(first, second, most=7):
    """Return (dy, dx) by which `second` must be moved to be most like `first`."""
    inner = np.s_[most:-most, most:-most]

    def likeness(shift):
        moved = np.roll(second, shift, (0, 1))
        return np.corrcoef(first[inner].ravel(), moved[inner].ravel())[0, 1]

    shifts = [(y, x) for y in range(-most, most + 1) for x in range(-most, most + 1)]
    return max(shifts, key=likeness)


def test_the_classes_of_a_region_can_be_chosen(viewer, slide, ready, qtbot, mask_layer, draw):
    draw(ready, slide, 20, 20, 120, 140)
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    for k in range(3):
        item = ready.view.table.item(k, 0)
        if item.checkState() == Qt.CheckState.Unchecked:
            item.setCheckState(Qt.CheckState.Checked)
            break
    else:
        ready.view.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    wanted = ready.view.label
    qtbot.waitUntil(
        lambda: (
            (ready.explaining.found.explanation.label == wanted).all()
            and not ready.look.runner.running
        ),
        timeout=WAIT,
    )
    assert set(np.unique(mask_layer(ready).data)) - {0} <= set(np.flatnonzero(wanted) + 1)


def test_a_region_that_is_too_small_is_told(viewer, slide, ready, qtbot, draw):
    draw(ready, slide, 20, 20, 30, 30)
    qtbot.waitUntil(lambda: "5 x 5 px" in ready.look.error.text(), timeout=WAIT)
    assert slide.visible


def test_leaving_the_panel_ends_the_drawing(viewer, slide, ready, choose):
    callbacks = list(viewer.mouse_drag_callbacks)
    choose(ready, 1)
    ready.region.button.click()
    ready.hide()
    assert viewer.mouse_drag_callbacks == callbacks
    assert viewer.scene.camera.mouse_pan
    ready.show()
    assert not ready.region.drawing
    ready.region.button.click()
    assert ready.region.drawing
    choose(ready, 0)  # the button that ends it is hidden now
    assert viewer.mouse_drag_callbacks == callbacks
    assert viewer.scene.camera.mouse_pan


def test_leaving_the_panel_takes_the_frame_along_and_coming_back_brings_it(
    viewer, slide, ready, qtbot, draw, names_in
):
    viewer.layers.selection = {slide}
    draw(ready, slide, 31.5, 63.5, 191.5, 223.5)
    drawn = ready.region.corners(slide)
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    ready.hide()
    assert names_in(viewer) == ["slide"]
    assert viewer.layers.selection == {slide}
    ready.show()
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    np.testing.assert_array_equal(ready.region.corners(slide), drawn)
    viewer.canvas.grid.enabled = False
    assert sorted(names_in(viewer)) == ["region for class maps", "slide"]
    viewer.layers.remove("region for class maps")  # by the user, for good
    ready.hide()
    ready.show()
    assert names_in(viewer) == ["slide"]
    assert ready.region.corners(slide) is None


def test_moving_goes_on_as_it_was_before_the_drawing(viewer, slide, ready, draw):
    paint = viewer.add_labels(np.zeros((8, 8), np.uint8), units=("µm", "µm"))
    paint.mode = "paint"
    assert not viewer.scene.camera.mouse_pan
    ready.region.draw(slide)
    ready.region.stop()
    assert not viewer.scene.camera.mouse_pan
