"""Stored pyramids: metadata, the arithmetic of levels, and refusals."""

import errno
import json

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import Image, ImageLabel, Labels

from napari_wsss.classes import ClassTable
from napari_wsss.errors import OutputError, SlideError
from napari_wsss.slides import (
    create_labels,
    create_pyramid,
    create_store,
    open_labels,
    open_pyramid,
    open_slide,
)
from napari_wsss.slides.downsample import halve

CLASSES = ClassTable.from_names(["tumour", "stroma", "necrosis"], values=[0, 7, 2], ignore=[3])


# -- halving ------------------------------------------------------------------------


def block(*values):
    return np.array(values, np.uint8).reshape(2, 2)


@pytest.mark.parametrize(
    ("values", "ignore", "expected"),
    [
        ((1, 2, 2, 3), (), 2),
        ((1, 1, 2, 2), (), 1),
        ((2, 1, 2, 1), (), 2),
        ((0, 0, 5, 5), (), 5),
        ((0, 0, 0, 5), (), 0),
        ((0, 3, 5, 0), (), 0),
        ((255, 255, 255, 4), (255,), 4),
        ((255, 255, 255, 0), (255,), 0),
        ((255, 255, 255, 255), (255,), 255),
        ((255, 255, 255, 4), (), 255),
    ],
)
def test_mode(values, ignore, expected):
    assert halve(block(*values), "mode", ignore)[0, 0] == expected


@pytest.mark.parametrize(
    ("values", "ignore", "expected"),
    [
        ((1, 2, 3, 4), (), 3),
        ((0, 0, 0, 1), (), 0),
        ((255, 10, 20, 255), (255,), 15),
        ((255,) * 4, (255,), 255),
    ],
)
def test_mean(values, ignore, expected):
    assert halve(block(*values), "mean", ignore)[0, 0] == expected


def test_float_mean_leaves_nan_out():
    values = np.array([[1.0, np.nan], [2.0, np.nan]], np.float16)
    assert halve(values, "mean", (np.nan,))[0, 0] == 1.5


@settings(derandomize=True)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["mean", "mode", "nearest"]))
def test_odd_sides_are_kept(height, width, method):
    pixels = np.full((2, height, width), 7, np.uint8)
    out = halve(pixels, method, (255,))
    assert out.shape == (2, -(-height // 2), -(-width // 2))
    assert (out == 7).all()


# -- metadata -----------------------------------------------------------------------


def test_levels_scale_and_translation(tmp_path):
    pyramid = create_pyramid(
        tmp_path / "a.zarr", (300, 421), mpp=0.5, chunk=64, translation_px=(10.0, 0.5)
    )
    assert [a.shape for a in pyramid.levels] == [(300, 421), (150, 211), (75, 106), (38, 53)]
    model = Image.from_zarr(zarr.open_group(str(tmp_path / "a.zarr"), mode="r"))
    image = model.ome_attributes.multiscales[0]
    assert [(a.name, a.unit) for a in image.axes] == [("y", "micrometer"), ("x", "micrometer")]
    for level, dataset in enumerate(image.datasets):
        factor = 2**level
        scale, translation = dataset.coordinateTransformations
        assert scale.scale == [0.5 * factor] * 2
        assert translation.translation == [(t + (factor - 1) / 2) * 0.5 for t in (10, 0.5)]


def test_no_unit_without_resolution(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (30, 42))
    image = json.loads((tmp_path / "a.zarr/zarr.json").read_text())["attributes"]["ome"][
        "multiscales"
    ][0]
    assert [a.get("unit") for a in image["axes"]] == [None, None]
    assert open_labels(tmp_path / "a.zarr").mpp is None


def test_storage(tmp_path):
    create_pyramid(
        tmp_path / "a.zarr", (3, 90, 80), axes=("c", "y", "x"), chunk=32, fill_value=255
    )
    metadata = json.loads((tmp_path / "a.zarr/0/zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["dimension_names"] == ["c", "y", "x"]
    assert metadata["fill_value"] == 255
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [1, 32, 32]
    zstd = metadata["codecs"][-1]
    assert (zstd["name"], zstd["configuration"]["checksum"]) == ("zstd", True)


def test_label_metadata(tmp_path):
    create_pyramid(
        tmp_path / "a.zarr",
        (60, 70),
        mpp=0.25,
        classes=CLASSES,
        fill_value=255,
        translation_px=(2, 3),
    )
    model = ImageLabel.from_zarr(zarr.open_group(str(tmp_path / "a.zarr"), mode="r"))
    label = model.ome_attributes.image_label
    colors = {c.label_value: c.rgba for c in label.colors}
    names = {p.label_value: p.name for p in label.properties}
    assert colors[0][3] == colors[255][3] == 0
    assert colors[2] == (0x00, 0x9E, 0x73, 255)
    assert (names[1], names[3]) == ("tumour", "necrosis")
    levels, mpp, classes, translation = open_labels(tmp_path / "a.zarr")
    assert (levels[0][:] == 255).all()
    assert (mpp, classes, translation) == (0.25, CLASSES, (2.0, 3.0))


def test_classes_of_foreign_labels(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (60, 70), classes=CLASSES)
    group = zarr.open_group(str(tmp_path / "a.zarr"))
    group.attrs["napari_wsss"] = {}
    found = open_labels(tmp_path / "a.zarr").classes
    assert found.names == CLASSES.names
    np.testing.assert_array_equal(found.rgb, CLASSES.rgb)


def test_labels_beside_an_image(tmp_path):
    image = create_pyramid(
        tmp_path / "a.zarr", (3, 300, 200), axes=("c", "y", "x"), mpp=0.5, chunk=64
    )
    for name in ("tissue", "second"):
        labels = create_labels(image.group, name, (75, 50), classes=CLASSES, mpp=2.0)
        assert len(labels.levels) == len(image.levels)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")
    Image.from_zarr(group)
    assert Labels.from_zarr(group["labels"]).label_paths == ["tissue", "second"]
    assert open_labels(tmp_path / "a.zarr/labels/second").mpp == 2.0
    with pytest.raises(OutputError, match="exists already"):
        create_labels(image.group, "tissue", (75, 50), classes=CLASSES)
    with pytest.raises(OutputError, match="cannot be the name"):
        create_labels(image.group, "../out", (75, 50), classes=CLASSES)


# -- building levels ----------------------------------------------------------------


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    method=st.sampled_from(["mean", "mode", "nearest"]),
)
def test_build_equals_halving_the_whole(tmp_path_factory, height, width, method):
    pixels = (
        np.random.default_rng(height * 91 + width)
        .choice([0, 1, 2, 255], (height, width))
        .astype(np.uint8)
    )
    pyramid = create_pyramid(tmp_path_factory.mktemp("p") / "a.zarr", (height, width), chunk=16)
    pyramid.write(0, 0, pixels)
    pyramid.build(method, ignore=(255,))
    for level in pyramid.levels[1:]:
        pixels = halve(pixels, method, (255,))
        np.testing.assert_array_equal(level[:], pixels)


def test_updates_add_up_to_a_build(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4, (150, 130), np.uint8)
    one = create_pyramid(tmp_path / "one.zarr", pixels.shape, chunk=16, fill_value=255)
    two = create_pyramid(tmp_path / "two.zarr", pixels.shape, chunk=16, fill_value=255)
    one.write(0, 0, pixels)
    one.build("mode", (255,))
    for y in range(0, 150, 48):
        for x in range(0, 130, 48):
            part = pixels[y : y + 48, x : x + 48]
            two.write(y, x, part)
            two.update(y, x, *part.shape, method="mode", ignore=(255,))
    two.update(1000, 1000, 5, 5)
    for a, b in zip(one.levels, two.levels, strict=True):
        np.testing.assert_array_equal(a[:], b[:])


def test_reopened_pyramid_can_be_written(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (40, 40), chunk=16)
    open_pyramid(tmp_path / "a.zarr", "r+").write(3, 4, np.ones((5, 6), np.uint8))
    assert open_pyramid(tmp_path / "a.zarr").levels[0][:].sum() == 30


@pytest.mark.parametrize(
    ("y", "x", "shape"), [(-1, 0, (4, 4)), (30, 0, (20, 4)), (0, 0, (2, 4, 4))]
)
def test_blocks_that_do_not_fit(tmp_path, y, x, shape):
    pyramid = create_pyramid(tmp_path / "a.zarr", (40, 40))
    with pytest.raises(OutputError, match="does not fit"):
        pyramid.write(y, x, np.zeros(shape, np.uint8))


# -- refusals -----------------------------------------------------------------------


def test_existing_output_is_kept(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (40, 40)).write(0, 0, np.ones((40, 40), np.uint8))
    with pytest.raises(OutputError, match="--overwrite"):
        create_pyramid(tmp_path / "a.zarr", (40, 40))
    assert open_pyramid(tmp_path / "a.zarr").levels[0][:].all()
    create_pyramid(tmp_path / "a.zarr", (40, 40), overwrite=True)
    assert not open_pyramid(tmp_path / "a.zarr").levels[0][:].any()


def test_foreign_things_are_never_deleted(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    zarr.create_group(str(tmp_path / "other.zarr"))
    (tmp_path / "file").write_text("x")
    for name in ("thesis", "other.zarr", "file"):
        with pytest.raises(OutputError, match="not a result of napari-wsss"):
            create_store(tmp_path / name, overwrite=True)
    assert (folder / "chapter.txt").exists()
    assert (tmp_path / "other.zarr/zarr.json").exists()


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (errno.ENOSPC, "disk of .* is full.*bytes"),
        (errno.EACCES, "may write"),
        (errno.EIO, "cannot be written"),
    ],
)
def test_failing_disk(tmp_path, monkeypatch, code, match):
    pyramid = create_pyramid(tmp_path / "a.zarr", (40, 40))

    async def fail(*_args, **_options):
        raise OSError(code, "no")

    monkeypatch.setattr(type(pyramid.group.store_path.store), "set", fail)
    with pytest.raises(OutputError, match=match):
        pyramid.write(0, 0, np.ones((40, 40), np.uint8))


def test_unusable_targets(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError):
        create_pyramid(tmp_path / "file" / "a.zarr", (4, 4))
    with pytest.raises(OutputError, match="axes"):
        create_pyramid(tmp_path / "a.zarr", (4, 4), axes=("z", "x"))
    with pytest.raises(SlideError, match="not an OME-Zarr image"):
        open_labels(tmp_path / "nothing.zarr")
    zarr.create_group(str(tmp_path / "empty.zarr"))
    with pytest.raises(SlideError, match="multiscales"):
        open_labels(tmp_path / "empty.zarr")


def test_a_bit_flip_in_a_result_is_noticed(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (64, 64)).write(
        0, 0, np.random.default_rng(0).integers(0, 9, (64, 64), np.uint8)
    )
    chunk = tmp_path / "a.zarr/0/c/0/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)
    with pytest.raises(SlideError, match="level 0, y 0, x 0"):
        open_slide(tmp_path / "a.zarr").read_region(0, 0, 0, 64, 64)
