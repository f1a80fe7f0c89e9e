"""The reader without napari: what it claims, and the layer data it makes."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.panels.reader import get_reader, read
from napari_wsss.slides import (
    Channels,
    convert_slide,
    create_labels,
    create_pyramid,
    open_labels,
    open_pyramid,
)

LABELS = "labels/segmentation"
CLASSES = ClassTable.from_names(["gland", "rest"], colors=["#ff0000", "#00ff00"])


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)


def write_tiff(path, pixels, mpp=None):
    per_cm = {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": 3}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32), **per_cm)
    return path


def labelled(path, pixels, mpp):
    """Write a slide with a label image and a map as the package stores them."""
    height, width = pixels.shape[:2]
    group = create_pyramid(
        path,
        (3, height, width),
        axes=("c", "y", "x"),
        mpp=mpp,
        channels=Channels(("red", "green", "blue"), per_chunk=3),
        chunk=32,
    ).group
    labels = create_labels(
        group, "tissue", (height, width), classes=CLASSES, mpp=mpp, chunk=32,
        translation_px=(0.5, 0.5),
    )  # fmt: skip
    labels.levels[0][:] = np.ones((height, width), np.uint8)
    maps = group.create_group("maps")
    create_pyramid(
        maps, (2, height, width), axes=("c", "y", "x"), mpp=mpp, chunk=64,
        channels=Channels(CLASSES.names, ["#ff0000", "#00ff00"]),
    )  # fmt: skip
    create_pyramid(group.create_group("uncertainty"), (height, width), mpp=mpp, chunk=64)
    return path


@pytest.mark.parametrize("name", ["a.svs", "b.NDPI", "c.ome.tif", "d.tiff", "e.vms"])
def test_slides_are_claimed_by_name(name):
    assert get_reader(name) is read


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.txt", "a", "missing.zarr"])
def test_the_rest_is_not(name):
    assert get_reader(name) is None


def test_a_stack_of_files_is_left_to_others():
    assert get_reader(["a.tif", "b.tif"]) is None


def test_a_folder_called_zarr_without_metadata_is_not_claimed(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    assert get_reader(tmp_path / "a.zarr") is None


def test_a_slide_becomes_an_rgb_image_in_micrometres(tmp_path, pixels):
    path = write_tiff(tmp_path / "slide.tif", pixels, mpp=0.5)
    ((data, options, kind),) = get_reader(str(path))(str(path))
    assert kind == "image"
    assert options["rgb"] is True
    assert options["multiscale"] is False
    assert options["name"] == "slide"
    assert options["scale"] == pytest.approx((0.5, 0.5))
    assert options["units"] == ("µm", "µm")
    np.testing.assert_array_equal(np.asarray(data), pixels)


def test_without_resolution_layers_stay_in_pixels(tmp_path, pixels):
    path = write_tiff(tmp_path / "slide.tif", pixels)
    ((_, options, _),) = read(path)
    assert "scale" not in options
    assert "units" not in options


def test_levels_become_multiscale_and_stay_lazy(tmp_path, pixels):
    path = tmp_path / "slide.ome.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, subifds=1, photometric="rgb", tile=(32, 32))
        file.write(pixels[::2, ::2], subfiletype=1, photometric="rgb", tile=(32, 32))
    ((data, options, _),) = read(path)
    assert options["multiscale"] is True
    assert [level.shape for level in data] == [(96, 128, 3), (48, 64, 3)]
    assert all(hasattr(level, "dask") for level in data)


def test_a_converted_slide_reads_back(tmp_path, pixels):
    source = write_tiff(tmp_path / "slide.tif", pixels, mpp=0.5)
    path = tmp_path / "out.ome.zarr"
    convert_slide(source, path)
    assert get_reader(path) is read
    ((data, options, kind),) = read(path)
    level = data[0] if options["multiscale"] else data
    assert kind == "image"
    assert options["name"] == "out"
    assert options["scale"] == pytest.approx((0.5, 0.5))
    np.testing.assert_array_equal(np.asarray(level), pixels)


def test_results_become_labels_and_maps_in_register(tmp_path, pixels):
    layers = read(labelled(tmp_path / "case.ome.zarr", pixels, mpp=0.5))
    by_name = {str(options["name"]): (data, options, kind) for data, options, kind in layers}
    assert [kind for _, _, kind in layers] == ["image", "image", "image", "labels"]

    data, options, _ = by_name["case tissue"]
    assert int(np.asarray(data[0]).max()) == 1
    assert options["colormap"][None] == "#00000000"
    assert options["colormap"][1] == "#ff0000"
    assert options["features"]["class"][1] == "gland"
    assert options["scale"] == pytest.approx((0.5, 0.5))
    assert options["translate"] == pytest.approx((0.25, 0.25))

    _, options, _ = by_name["['case maps gland', 'case maps rest']"]
    assert options["channel_axis"] == 0
    assert options["colormap"] == ["#ff0000", "#00ff00"]
    assert options["contrast_limits"] == (0, 255)

    _, options, _ = by_name["case uncertainty"]
    assert "channel_axis" not in options
    assert {options.get("units") for _, options, _ in layers} == {("µm", "µm")}


def test_foreign_labels_are_left_out(tmp_path, pixels):
    path = labelled(tmp_path / "case.ome.zarr", pixels, mpp=None)
    group = open_pyramid(path, mode="r+").group
    del group["labels/tissue"].attrs["napari_wsss"]
    assert all(kind == "image" for _, _, kind in read(path))


def test_a_broken_slide_is_our_error(tmp_path):
    path = tmp_path / "broken.tif"
    path.write_bytes(b"II*\0" + b"\xff" * 40)
    with pytest.raises(SlideError, match=r"broken\.tif"):
        read(path)


def test_a_zarr_without_an_image_says_so(tmp_path):
    path = tmp_path / "empty.zarr"
    zarr.create_group(path)
    with pytest.raises(SlideError, match="without an OME-Zarr image"):
        read(path)


def test_cut_zarr_metadata_is_our_error(tmp_path, pixels):
    path = labelled(tmp_path / "case.ome.zarr", pixels, mpp=0.5)
    metadata = path / "labels" / "tissue" / "zarr.json"
    metadata.write_bytes(metadata.read_bytes()[:50])
    with pytest.raises(SlideError, match=r"case\.ome\.zarr"):
        read(path)


# -- results --------------------------------------------------------------------------


def result(path, size=(700, 1100), complete=True, live=False):
    """Write a result as a run leaves it, its upper half done."""
    root = create_pyramid(
        path, size, mpp=2.0, chunk=256, fill_value=255, translation_px=(1.5, 1.5)
    )
    labels = create_labels(
        root.group, "segmentation", size, classes=CLASSES, mpp=2.0, chunk=256,
        translation_px=(1.5, 1.5),
    )  # fmt: skip
    rng = np.random.default_rng(1)
    upper = (512, size[1]) if not complete else size
    labels.write(0, 0, rng.integers(0, 3, upper).astype(np.uint8))
    root.write(0, 0, rng.integers(0, 255, upper).astype(np.uint8))
    if complete or live:
        labels.build("mode", ignore=[255])
        root.build("mean", ignore=[255])
    record = {"complete": complete, "kind": "segmentation", "downsample": [4.0, 4.0]}
    (path / "run.json").write_text(json.dumps(record))
    return path


def test_a_result_opens_as_labels_over_hidden_uncertainty(tmp_path):
    doubt, labels = read(result(tmp_path / "case.ome.zarr"))
    assert doubt[1]["name"] == "case uncertainty"
    assert doubt[1]["visible"] is False
    assert labels[1]["name"] == "case segmentation"
    assert labels[1]["metadata"]["napari_wsss"] == {
        "downsample": (4.0, 4.0), "result": str(tmp_path / "case.ome.zarr"), "complete": True,
    }  # fmt: skip
    assert labels[1]["scale"] == doubt[1]["scale"] == pytest.approx((2.0, 2.0))
    assert labels[1]["translate"] == pytest.approx((3.0, 3.0))
    # Lazy, and never a dask array: those are cached although the result may still change.
    assert all(isinstance(level, zarr.Array) for level in labels[0])


@pytest.mark.parametrize("live", [False, True])
def test_an_unfinished_result_opens_as_far_as_it_is(tmp_path, monkeypatch, live):
    told = []
    monkeypatch.setattr("napari.utils.notifications.show_info", told.append)
    path = result(tmp_path / "case.ome.zarr", complete=False, live=live)
    doubt, (levels, _, _) = read(path)
    assert "not finished" in told[0]
    whole = open_labels(result(tmp_path / "whole.ome.zarr", complete=False, live=True) / LABELS)
    for level, expected in zip(levels, whole.levels, strict=True):
        np.testing.assert_array_equal(np.asarray(level), expected[:])
    assert np.asarray(doubt[0][-1]).min() < 255


def test_a_correction_that_was_cut_off_is_finished(tmp_path):
    path = result(tmp_path / "case.ome.zarr")
    record = json.loads((path / "run.json").read_text())
    decided = path / ".change"
    decided.mkdir()
    (decided / "run.json").write_text(json.dumps({**record, "corrections": [{"pixels": 3}]}))
    read(path)
    assert not decided.exists()
    assert json.loads((path / "run.json").read_text())["corrections"] == [{"pixels": 3}]


def test_slides_and_results_open_without_torch(tmp_path, pixels):
    """It would hold the viewer up for seconds."""
    slide = str(write_tiff(tmp_path / "a.tif", pixels, mpp=0.5))
    segmented = str(result(tmp_path / "a.ome.zarr"))
    code = (
        "import sys; from napari_wsss.panels.reader import read; "
        f"assert read({slide!r}) and read({segmented!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_damaged_run_record_is_our_error(tmp_path):
    path = result(tmp_path / "case.ome.zarr")
    (path / "run.json").write_text("{")
    with pytest.raises(SlideError, match=r"run\.json"):
        read(path)


def test_class_maps_open_as_one_layer_per_class(tmp_path):
    path = tmp_path / "case-maps.ome.zarr"
    create_pyramid(
        path, (2, 64, 64), axes=("c", "y", "x"), mpp=2.0,
        channels=Channels(CLASSES.names, ["#ff0000", "#00ff00"]),
    )  # fmt: skip
    (path / "run.json").write_text(json.dumps({"complete": True, "kind": "maps"}))
    ((_, options, kind),) = read(path)
    assert kind == "image"
    assert options["name"] == ["case-maps gland", "case-maps rest"]


# -- in napari ------------------------------------------------------------------------


def test_several_paths_dropped_together_become_layers_in_register(tmp_path, pixels):
    from napari.components import ViewerModel
    from npe2 import PluginManager

    PluginManager.instance().discover()
    viewer = ViewerModel()
    paths = [
        str(write_tiff(tmp_path / "a.tif", pixels, mpp=0.5)),
        str(write_tiff(tmp_path / "b.tif", pixels, mpp=0.5)),
        str(result(tmp_path / "a.ome.zarr")),
    ]
    viewer.open(paths, stack=False, plugin="napari-wsss")
    assert [layer.name for layer in viewer.layers] == [
        "a", "b", "a uncertainty", "a segmentation",
    ]  # fmt: skip
    assert {str(unit) for layer in viewer.layers for unit in layer.units} == {"micrometer"}
    assert all(layer.source.path for layer in viewer.layers)


def test_real_slides_open_lazily(data):
    for name in ("cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs", "small_HE_levels.tiff"):
        ((levels, options, _),) = read(data / "slides" / name)
        levels = levels if options["multiscale"] else [levels]
        assert all(hasattr(level, "dask") for level in levels), name
