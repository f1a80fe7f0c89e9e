"""Layers of a growing result: kept up to date, in place, and robust."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_wsss.classes import ClassTable
from napari_wsss.inference.result import write_run
from napari_wsss.panels.support.live import LiveResult, Place, ViewCentre, warm_up
from napari_wsss.panels.support.shown_results import layers_of
from napari_wsss.slides import create_labels, create_pyramid, open_pyramid

CLASSES = ClassTable.from_names(["gland", "rest"], colors=["#ff0000", "#0000ff"])
PLACE = Place((0.25, 0.25), (10.0, 20.0), ("µm", "µm"), ("y", "x"))


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def growing(tmp_path):
    """A result of 300 x 200 px in 3 levels with half the slide's resolution; nothing is done."""
    path = tmp_path / "case.ome.zarr"
    group = create_pyramid(path, (300, 200), chunk=100, fill_value=255).group
    create_labels(group, "segmentation", (300, 200), chunk=100, classes=CLASSES)
    write_run(path, {"kind": "segmentation", "downsample": [2.0, 2.0], "complete": False})
    return path


def store(path, y, label):
    """Write 100 rows as the run does, with the coarser levels."""
    for where, value, method in ((path / "labels/segmentation", label, "mode"), (path, 9, "mean")):
        pyramid = open_pyramid(where, "r+")
        pyramid.write(y, 0, np.full((100, 200), value, np.uint8))
        pyramid.update(y, 0, 100, 200, method, (255,))


def test_all_levels_show_what_is_stored(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    live.show_uncertainty(True)
    assert all((np.asarray(level) == 255).all() for level in live.labels.data)
    coarsest = live.labels.data[-1]
    store(growing, 0, 2)
    live.refresh()
    for level in live.labels.data:
        rows = level.shape[0] // 3
        assert (np.asarray(level)[:rows] == 2).all()
        assert (np.asarray(level)[rows + 1 :] == 255).all()
    assert live.labels.data[-1] is coarsest
    assert isinstance(coarsest, np.ndarray)
    assert (np.asarray(live.uncertainty.data[-1])[:20] == 9).all()


def test_it_lies_on_the_slide_to_half_a_pixel(viewer, growing):
    slide = Image(
        np.zeros((600, 400, 3), np.uint8), rgb=True, scale=PLACE.scale, translate=PLACE.translate,
        units=PLACE.units, axis_labels=PLACE.axis_labels,
    )  # fmt: skip
    viewer.add_layer(slide)
    live = LiveResult(viewer, growing, Place.of(slide))
    live.show_uncertainty(True)
    assert live.layers == [live.labels, live.uncertainty] == list(viewer.layers)[1:]
    for layer in live.layers:
        assert layer.units == slide.units
        assert layer.axis_labels == slide.axis_labels
        # The corner of the first pixel, and the one after the last.
        for own, of_slide in (((-0.5, -0.5), (-0.5, -0.5)), ((299.5, 199.5), (599.5, 399.5))):
            np.testing.assert_allclose(layer.data_to_world(own), slide.data_to_world(of_slide))


def test_deleted_layers_and_folders_do_no_harm(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    live.show_uncertainty(True)
    viewer.layers.remove(live.uncertainty)
    shutil.rmtree(growing)
    live.refresh()
    assert live.layers == [live.labels]
    viewer.layers.clear()
    live.refresh()


def test_a_result_that_is_shown_anew_takes_the_place_of_its_layers(viewer, growing):
    other = viewer.add_labels(np.zeros((8, 8), np.uint8), name="another result")
    before = LiveResult(viewer, growing, PLACE)
    before.show_uncertainty(True)
    earlier = layers_of(viewer, growing)
    assert earlier == before.layers
    live = LiveResult(viewer, growing, PLACE)
    live.take_over(earlier)
    assert list(viewer.layers) == [other, live.labels]
    assert live.labels.name == "case segmentation"


def test_layers_that_fit_are_kept(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    assert live.still_shows(growing)
    assert not live.still_shows(growing.with_name("other.ome.zarr"))
    write_run(growing, {"kind": "segmentation", "downsample": [4.0, 4.0], "complete": False})
    assert not live.still_shows(growing)
    write_run(growing, {"kind": "segmentation", "downsample": [2.0, 2.0], "complete": False})
    viewer.layers.remove(live.labels)
    assert not live.still_shows(growing)


def test_uncertainty_is_there_when_it_is_asked_for(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    live.show_uncertainty(False)
    assert len(viewer.layers) == 1
    live.show_uncertainty(True)
    first = live.uncertainty
    live.show_uncertainty(False)
    assert not first.visible
    live.show_uncertainty(True)
    assert live.uncertainty is first
    assert first.visible
    viewer.layers.remove(first)  # by hand, and asked for again
    live.show_uncertainty(True)
    assert live.layers == [live.labels, live.uncertainty]


def test_what_is_not_computed_is_clear_in_the_uncertainty(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    live.show_uncertainty(True)
    doubt = live.uncertainty
    assert doubt.contrast_limits == [0, 254]
    assert doubt.colormap.high_color[3] == 0


def test_hidden_classes(viewer, growing):
    live = LiveResult(viewer, growing, PLACE)
    live.hide({0})
    colors = live.labels.colormap.color_dict
    assert [colors[i][3] for i in (1, 2)] == [0, 1]
    assert colors[None][3] == 0
    assert 0 < colors[255][3] < 1
    live.hide(())
    assert live.labels.colormap.color_dict[1][3] == 1


def test_the_centre_of_the_view_in_pixels_of_the_slide(viewer):
    viewer.add_image(np.zeros((3, 100, 80)))  # a stack beside the slide
    centre = ViewCentre(viewer, PLACE)
    viewer.scene.camera.center = (0, 35, 70)
    assert centre.yx == pytest.approx(((35 - 10) / 0.25, (70 - 20) / 0.25))
    viewer.dims.ndisplay = 3
    viewer.scene.camera.center = (1, 15, 25)
    assert centre.yx == pytest.approx((20, 20))
    viewer.dims.ndisplay = 2
    viewer.dims.order = (1, 2, 0)  # the slide's plane is not what is shown
    assert centre.yx is None
    viewer.dims.order = (0, 1, 2)
    centre.disconnect()
    viewer.scene.camera.center = (0, 0, 0)
    assert centre.yx != pytest.approx((-40, -80))


def test_what_napari_computes_once_is_computed_before_the_first_result():
    dash_atlas = pytest.importorskip("vispy.visuals.line.dash_atlas")
    dash_atlas._make_pattern.cache_clear()
    warm_up.cache_clear()
    warm_up()
    made = dash_atlas._make_pattern.cache_info().misses
    assert made > 0
    dash_atlas.DashAtlas()
    assert dash_atlas._make_pattern.cache_info().misses == made


def test_labels_may_be_drawn_later_and_not_once_they_are_gone(viewer, growing):
    live = LiveResult(viewer, growing, PLACE, visible=False)
    assert not live.labels.visible
    live.appear()
    assert live.labels.visible
    live.labels.visible = False
    viewer.layers.remove(live.labels)
    live.appear()
    assert not live.labels.visible
