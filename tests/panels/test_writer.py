"""Saving labels layers, and reading back what was saved."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels
from npe2 import PluginManager
from shapely.geometry import shape

from napari_wsss.classes import ClassTable
from napari_wsss.errors import OutputError
from napari_wsss.panels.reader import read
from napari_wsss.panels.support.layers import labels_layer
from napari_wsss.panels.writer import write_geojson, write_ome_zarr
from napari_wsss.slides import open_labels

CLASSES = ClassTable.from_names(["gland", "rest"], colors=["#ff0000", "#00ff00"])


@pytest.fixture
def pixels():
    labels = np.zeros((60, 80), np.uint8)
    labels[10:30, 20:60] = 1
    labels[30:50, 20:40] = 2
    labels[15:20, 30:35] = 0  # a hole
    return labels


def layer_of(pixels, **options):
    data, given, _ = labels_layer([pixels], "tissue", 0.5, CLASSES, **options)
    return Labels(data, **given)


def saved(path, *layers):
    return write_ome_zarr(str(path), [layer.as_layer_data_tuple() for layer in layers])


def outlines(path):
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)["features"]


def test_ome_zarr_reads_back_as_the_same_layer(tmp_path, pixels):
    layer = layer_of(pixels, translation_px=(1.5, 1.5))
    (path,) = saved(tmp_path / "a.ome.zarr", layer)
    ((data, options, kind),) = read(path)
    again = Labels(data, **options)
    assert kind == "labels"
    np.testing.assert_array_equal(np.asarray(again.data), pixels)
    assert again.scale == pytest.approx(layer.scale)
    assert again.translate == pytest.approx(layer.translate)
    assert again.units == layer.units
    assert list(again.features["class"]) == list(layer.features["class"])
    for label in (1, 2):
        assert again.colormap.map(label) == pytest.approx(layer.colormap.map(label))


def test_painted_labels_get_names_and_the_colours_on_screen(tmp_path, pixels):
    layer = Labels(pixels.astype(np.int32) * 2, name="painted")
    (path,) = saved(tmp_path / "a.ome.zarr", layer)
    stored = open_labels(path)
    assert stored.classes.names == ("class 1", "class 2", "class 3", "class 4")
    assert stored.mpp is None
    shown = np.round(255 * layer.colormap.map(4)[:3]).astype(int)
    assert stored.classes.classes[3].rgb == tuple(shown)
    np.testing.assert_array_equal(stored.levels[0][:], pixels * 2)


def test_one_painted_class_is_enough(tmp_path):
    layer = Labels((np.indices((40, 40))[0] > 20).astype(int), name="one")
    (path,) = saved(tmp_path / "a.ome.zarr", layer)
    assert open_labels(path).classes.names == ("class 1", "class 2")


def test_several_layers_become_several_folders(tmp_path, pixels):
    one, two = layer_of(pixels), layer_of(pixels)
    two.name = "tissue [1]"
    paths = saved(tmp_path / "case.ome.zarr", one, two)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "case tissue [1].ome.zarr",
        "case tissue.ome.zarr",
    ]
    assert len(paths) == 2


def test_a_multiscale_layer_is_saved_from_its_finest_level(tmp_path, pixels):
    big = np.kron(pixels, np.ones((16, 16), np.uint8))
    (first,) = saved(tmp_path / "a.ome.zarr", layer_of(big))
    ((data, options, _),) = read(first)
    assert options["multiscale"]
    (second,) = saved(tmp_path / "b.ome.zarr", Labels(data, **options))
    np.testing.assert_array_equal(open_labels(second).levels[0][:], big)


@pytest.mark.parametrize("name", ["a.geojson", "a.geojson.gz"])
def test_outlines_are_those_of_the_labels(tmp_path, pixels, name):
    data, meta, _ = layer_of(pixels).as_layer_data_tuple()
    assert write_geojson(str(tmp_path / name), data, meta) == [str(tmp_path / name)]
    gland, rest = (
        next(f for f in outlines(tmp_path / name) if _class(f) == c) for c in ("gland", "rest")
    )
    assert shape(gland["geometry"]).area == 20 * 40 - 25
    assert shape(rest["geometry"]).bounds == (20, 30, 40, 50)
    assert gland["properties"]["classification"]["color"] == [255, 0, 0]
    assert gland["properties"]["measurements"]["Area mm^2"] == pytest.approx(775 * 0.25e-6)


def test_outlines_of_a_result_are_in_pixels_of_the_slide(tmp_path, pixels):
    layer = layer_of(pixels, translation_px=(0.375, 0.375), downsample=(4.0, 4.0))
    data, meta, _ = layer.as_layer_data_tuple()
    write_geojson(str(tmp_path / "a.geojson"), data, meta)
    rest = next(f for f in outlines(tmp_path / "a.geojson") if _class(f) == "rest")
    assert shape(rest["geometry"]).bounds == (80, 120, 160, 200)


def test_a_region_moved_within_the_slide_keeps_its_place(tmp_path, pixels):
    data, meta, _ = layer_of(pixels, translation_px=(100, 200)).as_layer_data_tuple()
    write_geojson(str(tmp_path / "a.geojson"), data, meta)
    rest = next(f for f in outlines(tmp_path / "a.geojson") if _class(f) == "rest")
    assert shape(rest["geometry"]).bounds == (220, 130, 240, 150)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: Labels(np.zeros((3, 9, 9), int)), "3 dimensions"),
        (lambda p: Labels(p.astype(int) * 200), "count objects"),
        (lambda p: Labels(p, rotate=30), "rotated"),
        (lambda p: Labels(p, affine=[[1, 0.2, 0], [0, 1, 0], [0, 0, 1]]), "affine"),
        (lambda p: Labels(p, scale=(1, 2), units=("µm", "µm")), "square pixels"),
    ],
)
def test_what_cannot_be_kept_is_said(tmp_path, pixels, make, says):
    data, meta, _ = make(pixels).as_layer_data_tuple()
    with pytest.raises(OutputError, match=says):
        write_geojson(str(tmp_path / "a.geojson"), data, meta)
    with pytest.raises(OutputError, match=says):
        write_ome_zarr(str(tmp_path / "a.ome.zarr"), [(data, meta, "labels")])
    assert not list(tmp_path.iterdir())


def test_napari_finds_the_writers(tmp_path, pixels):
    PluginManager.instance().discover()
    viewer = ViewerModel()
    viewer.add_layer(layer_of(pixels))
    for name in ("a.ome.zarr", "b.geojson", "c.geojson.gz"):
        assert viewer.layers.save(str(tmp_path / name), plugin="napari-wsss") == [
            str(tmp_path / name)
        ]


def _class(feature):
    return feature["properties"]["classification"]["name"]
