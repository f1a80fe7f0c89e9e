"""The slide that is labelled, when it changes under the panel, and errors that come and go."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy")

from napari_wsss.panels.label import LabelPanel
from napari_wsss.panels.support.work import wait_for_jobs

STAINED = np.full((200, 320, 3), (180, 90, 160), np.uint8)


@pytest.fixture
def panel(add_panel, tmp_path):
    panel = add_panel(LabelPanel)
    panel.folder.path = tmp_path / "work"
    panel.form.patch_um.setValue(20)
    return panel


def test_a_layer_that_is_set_right_can_be_labelled(viewer, panel):
    layer = viewer.add_image(STAINED, rgb=True, rotate=20, name="scan")
    assert "rotated" in panel.begin.message.text()
    layer.rotate = 0
    assert "how many µm" in panel.begin.message.text()
    layer.scale, layer.units = (0.5, 0.5), ("um", "um")
    assert not panel.form.slide_mpp.isVisibleTo(panel)
    assert panel.begin.button.isEnabled()


def test_why_a_class_stays_is_said_until_the_user_goes_on(viewer, panel):
    viewer.add_image(STAINED, rgb=True, scale=(0.5, 0.5), units="um")
    panel.start()
    assert wait_for_jobs(20, cancel=False)
    panel.hand.toggle(0)
    panel.board.buttons.removed.emit(0)
    assert "Take that label away first" in panel.begin.error.text()
    assert panel.begin.error.isVisibleTo(panel)
    assert not panel.begin.button.isVisibleTo(panel), "it would begin anew"
    panel.hand.toggle(0)
    assert panel.begin.error.text() == ""
    assert not panel.begin.isVisibleTo(panel)
    panel.board.buttons.removed.emit(0)
    assert "tumour" not in panel.session.labels.classes.names
    panel.end()
    assert panel.begin.button.isVisibleTo(panel)


def test_labelling_ends_where_the_pixels_get_another_size(viewer, panel):
    layer = viewer.add_image(STAINED, rgb=True, scale=(0.5, 0.5), units="um", name="scan")
    panel.start()
    assert wait_for_jobs(20, cancel=False)
    session = panel.session
    assert session is not None
    session.labels.toggle(session.current, 0)
    viewer.add_image(STAINED[..., 0], name="in pixels")  # which changes nothing for the slide
    assert panel.session is session
    layer.scale = (0.25, 0.25)
    assert panel.session is None
    assert not [a for a in viewer.layers if a.name.startswith("patches of")]
    layer.scale = (0.5, 0.5)
    panel.start()
    assert wait_for_jobs(20, cancel=False)
    assert len(panel.session.labels.labelled) == 1  # kept
