"""Layers of any origin as slides."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile

pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Layer
from napari.layers._source import layer_source

from napari_wsss.errors import SlideError
from napari_wsss.panels.reader import read
from napari_wsss.panels.support.layer_slide import is_picture, layer_mpp, slide_of, slide_problem
from napari_wsss.panels.support.layers import mark_shown

RGB = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)


@pytest.fixture
def model():
    return ViewerModel()


def test_layers_of_results_are_not_taken_for_slides(model):
    ours = model.add_image(RGB[..., 0], metadata={"napari_wsss": {"result": "a.ome.zarr"}})
    grey = model.add_image(RGB[..., 0], metadata={"napari_wsss": {"downsample": (1, 1)}})
    slide = model.add_image(RGB, rgb=True)
    assert [is_picture(layer) for layer in (ours, grey, slide)] == [False, True, True]


def test_what_a_panel_shows_for_a_while_is_no_slide(model):
    options = {"rgb": True, "metadata": {"mine": 1, "napari_wsss": {"downsample": (1, 1)}}}
    layer = model.add_image(RGB, **mark_shown(options))
    assert not is_picture(layer)
    assert layer.metadata["mine"] == 1
    assert "shown" not in options["metadata"]["napari_wsss"]


def test_an_array_of_another_plugin(model):
    layer = model.add_image(RGB, rgb=True, name="a/b: c", scale=(0.5, 0.5), units="um")
    assert slide_problem(layer) is None
    slide = slide_of(layer)
    assert slide.mpp == 0.5
    assert slide.name == "a_b_ c"
    np.testing.assert_array_equal(slide.read_region(0, 10, 20, 30, 40), RGB[10:40, 20:60])


def test_a_lazy_pyramid(model):
    levels = [da.from_array(RGB, chunks=32), da.from_array(RGB[::2, ::2], chunks=32)]
    layer = model.add_image(levels, rgb=True, multiscale=True)
    slide = slide_of(layer, mpp=1.5)
    assert len(slide.levels) == 2
    assert slide.mpp == 1.5
    np.testing.assert_array_equal(slide.read_region(1, 0, 0, 60, 45), RGB[::2, ::2])


def test_transparency_lies_on_white(model):
    clear = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    slide = slide_of(model.add_image(clear, rgb=True))
    assert (slide.read_region(0, 0, 0, 10, 10) == 255).all()


def test_a_file_is_opened_as_itself(model, tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, RGB, photometric="rgb", tile=(32, 32))
    with layer_source(path=str(path)):  # as napari does when it opens a file
        layer = model.add_layer(Layer.create(*read(path)[0]))
    slide = slide_of(layer, mpp=0.25)
    assert slide.path == path
    assert slide.mpp == 0.25
    slide.close()


@pytest.mark.parametrize(
    ("unit", "scale", "expected"),
    [("um", 0.25, 0.25), ("mm", 0.0005, 0.5), ("nm", 250, 0.25), ("pixel", 1, None)],
)
def test_units(model, unit, scale, expected):
    layer = model.add_image(RGB, rgb=True, scale=(scale, scale), units=unit)
    assert layer_mpp(layer) == (None if expected is None else pytest.approx(expected))


def test_what_cannot_be_a_slide_says_why(model):
    stack = np.zeros((4, 60, 50, 3), np.uint8)
    turned = np.eye(3)
    turned[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    layers = {
        "Open a slide first": None,
        "not an RGB image": model.add_image(RGB[..., 0]),
        "not an RGB": model.add_labels(RGB[..., 0]),
        r"more than two dimensions \(4": model.add_image(stack, rgb=True),
        "8-bit RGB": model.add_image(RGB.astype(np.uint16), rgb=True),
        "too small": model.add_image(RGB[:8, :9], rgb=True),
        "rotated or sheared": model.add_image(RGB, rgb=True, affine=turned),
        r"scaled by its affine transform \(2 x 2\)": model.add_image(
            RGB, rgb=True, affine=np.diag([2.0, 2.0, 1.0])
        ),
        "rotated": model.add_image(RGB, rgb=True, rotate=30),
        "not square": model.add_image(RGB, rgb=True, scale=(1, 2)),
        "mirrored": model.add_image(RGB, rgb=True, scale=(-1, 1)),
    }
    for words, layer in layers.items():
        problem = slide_problem(layer)
        assert problem is not None, words
        with pytest.raises(SlideError, match=words):
            slide_of(layer)
