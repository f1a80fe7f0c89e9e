"""The layout of the user around the cells, and errors on the way."""

from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.errors import DataError

WAIT = 20_000


# -- layout ------------------------------------------------------------------------------------


def test_another_tab_gets_the_users_layout_and_back_again(
    viewer, slide, ready, qtbot, show, names_in
):
    show(ready, qtbot)
    assert not slide.visible
    ready.hide()
    assert names_in(viewer) == ["slide"]
    assert slide.visible
    assert not viewer.canvas.grid.enabled
    ready.show()
    qtbot.waitUntil(lambda: ready.grid.showing)
    viewer.canvas.grid.enabled = False
    assert slide.visible
    ready.hide()
    ready.show()
    assert not ready.grid.showing  # it had been left


def test_layers_deleted_meanwhile_do_no_harm(viewer, slide, ready, qtbot, show):
    show(ready, qtbot)
    ready.patches.forward.click()
    viewer.layers.selection = {slide, *ready.grid.layers}
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not ready.look.runner.running, timeout=WAIT)
    ready.view.threshold.setValue(0.4)
    ready.maps.box.setCurrentIndex(1)
    qtbot.wait(200)
    assert ready.look.error.text() == ""


def test_closing_in_the_middle_leaves_nothing_behind(viewer, slide, ready, qtbot, show, names_in):
    show(ready, qtbot)
    ready.patches.forward.click()
    assert ready.look.runner.running
    ready.close()
    assert names_in(viewer) == ["slide"]
    qtbot.waitUntil(lambda: not ready.look.runner.running, timeout=WAIT)
    qtbot.wait(20)
    assert names_in(viewer) == ["slide"]


def test_beside_a_stack_in_three_dimensions(viewer, slide, ready, qtbot, show, draw):
    stack = viewer.add_image(np.zeros((3, 4, 50, 50), np.uint8), name="stack")
    viewer.dims.ndisplay = 3
    show(ready, qtbot)
    assert ready.look.error.text() == ""
    assert not stack.visible
    assert viewer.dims.ndisplay == 2
    viewer.canvas.grid.enabled = False
    assert stack.visible
    assert viewer.dims.ndisplay == 3
    draw(ready, slide, 20, 20, 120, 140)  # a drag in three dimensions would turn the scene
    assert viewer.dims.ndisplay == 2
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    assert ready.look.error.text() == ""


# -- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("CUDA error: misaligned address"), "misaligned"),
        (DataError("p0.png: the image is damaged."), "damaged"),
        (KeyError("what"), "unexpected"),
    ],
)
def test_errors_of_the_thread_stay_readable(ready, qtbot, monkeypatch, error, text, show):
    def broken(*_, **__):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("napari_wsss.cams.masks.depth_maps", broken)
        ready.look.button.click()
        qtbot.waitUntil(lambda: bool(ready.look.error.text()), timeout=WAIT)
        assert text in ready.look.error.text()
        assert not ready.look.runner.running
        assert not ready.grid.showing
    show(ready, qtbot)
    assert ready.look.error.text() == ""
