"""Results that are opened from their files, as the panel that segments shows them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from napari_wsss.errors import CancelledError
from napari_wsss.inference import areas_so_far, segment_slide
from napari_wsss.jobs import BlockDone, CancelToken
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.state import state_of
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide

WAIT = 20_000
SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32", gate=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_segmenter):
    """A finished result, and one of eight blocks that was stopped after the first of them."""
    model, out = small_segmenter(0.5), tmp_path_factory.mktemp("made")
    blocks = np.random.default_rng(1).integers(0, 256, (128, 64, 3), np.uint8)
    pixels = blocks.repeat(16, 0).repeat(16, 1)
    segment_slide(open_slide(pixels[:512, :512], mpp=0.5, name="whole"), model, out, SETTINGS)
    stop = CancelToken()
    slide = open_slide(pixels, mpp=0.5, name="stopped")

    def stop_at(event):
        if isinstance(event, BlockDone):
            stop.cancel()

    with pytest.raises(CancelledError):
        segment_slide(slide, model, out, SETTINGS, cancel=stop, on_event=stop_at)
    return out


@pytest.fixture
def panel(viewer, add_panel, made, tmp_path):
    for name in ("whole", "stopped"):
        shutil.copytree(made / f"{name}.ome.zarr", tmp_path / f"{name}.ome.zarr")
        viewer.open(str(tmp_path / f"{name}.ome.zarr"), plugin="napari-wsss")
    return add_panel(SegmentPanel)


def shows(panel, path):
    """Whether name, areas and exports are those of one result."""
    rows = areas_so_far(path)[1:]
    shares = [f"{100 * row['share_of_tissue']:.1f} %" for row in rows]
    named = panel.shown.text() == path.name.removesuffix(".ome.zarr")
    return named and [row.share.text() for row in panel.legend._rows] == shares


def layer_of(viewer, path):
    name = path.name.removesuffix(".ome.zarr")
    (found,) = [a for a in viewer.layers if a.name.startswith(name) and "unc" not in a.name]
    return found


def test_a_result_that_was_stopped_is_summed_up_as_far_as_it_is(panel, viewer, tmp_path, qtbot):
    whole, stopped = tmp_path / "whole.ome.zarr", tmp_path / "stopped.ome.zarr"
    qtbot.waitUntil(lambda: shows(panel, stopped), timeout=WAIT)
    assert sum(row["pixels"] for row in areas_so_far(stopped)[1:]) < 2048 * 1024
    assert "not finished" in panel._guide.text()
    assert state_of(viewer).result == whole  # which Correct and exports could go on with
    assert not panel.exports.folder.isEnabled()
    viewer.layers.selection.active = layer_of(viewer, whole)
    qtbot.waitUntil(lambda: shows(panel, whole), timeout=WAIT)
    assert "Segmented" in panel._guide.text()
    assert panel.exports.folder.isEnabled()
    viewer.layers.selection.active = layer_of(viewer, stopped)
    qtbot.waitUntil(lambda: shows(panel, stopped), timeout=WAIT)
    assert not panel.exports.folder.isEnabled()


def test_classes_of_a_stopped_result_are_hidden_on_its_own_layer(panel, viewer, tmp_path, qtbot):
    stopped = tmp_path / "stopped.ome.zarr"
    qtbot.waitUntil(lambda: shows(panel, stopped), timeout=WAIT)
    panel.legend._rows[1].shown.click()
    seen = {
        name: layer_of(viewer, tmp_path / f"{name}.ome.zarr").colormap.color_dict[2][3]
        for name in ("whole", "stopped")
    }
    assert seen == {"whole": 1, "stopped": 0}


def test_a_stopped_result_that_is_opened_again_is_followed(panel, viewer, tmp_path, qtbot):
    stopped = tmp_path / "stopped.ome.zarr"
    qtbot.waitUntil(lambda: shows(panel, stopped), timeout=WAIT)
    before = layer_of(viewer, stopped)
    viewer.layers.remove(before)
    viewer.open(str(stopped), plugin="napari-wsss")
    qtbot.waitUntil(lambda: panel._result.labels is layer_of(viewer, stopped), timeout=WAIT)
