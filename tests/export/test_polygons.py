import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from napari_wsss.errors import DataError
from napari_wsss.export import polygons_from_labels

DATA = Path(os.environ.get("WSSS_DATA", Path(__file__).parents[2] / "../shared/data"))


def _drawn(regions, shape):
    shapes = [(r.polygon, r.class_index + 1) for r in regions]
    return rasterize(shapes, shape, dtype="uint8") if shapes else np.zeros(shape, np.uint8)


def _labels(text):
    rows = text.split()
    return np.array([[int(c) for c in row] for row in rows], np.uint8)


def test_region_with_a_hole_is_one_polygon():
    labels = _labels("0000 0111 0101 0111")
    (region,) = polygons_from_labels(labels, 2)
    assert region.class_index == 0
    assert region.polygon.bounds == (1, 1, 4, 4)
    assert region.polygon.area == 8
    assert len(region.polygon.interiors) == 1


def test_pixels_that_share_only_a_corner_are_two_regions():
    assert len(list(polygons_from_labels(_labels("10 01"), 1))) == 2


def test_ring_pinched_at_a_corner_is_valid_whatever_the_blocks():
    labels = _labels("111 101 110")
    for block_px in (1, 2, 3):
        (region,) = polygons_from_labels(labels, 1, block_px=block_px)
        assert region.polygon.is_valid
        assert region.polygon.area == 7


def test_block_borders_leave_no_trace():
    labels = np.ones((10, 10), np.uint8)
    labels[4:6, 4:6] = 0  # a hole on the crossing of four blocks
    (region,) = polygons_from_labels(labels, 1, block_px=5)
    assert len(region.polygon.exterior.coords) == 5
    assert [len(hole.coords) for hole in region.polygon.interiors] == [5]
    assert region.polygon.area == 96


def test_small_regions_are_dropped_by_their_whole_size_not_their_part_in_a_block():
    labels = np.zeros((6, 12), np.uint8)
    labels[2, 2:10] = 1  # 8 px across three blocks
    labels[5, 0] = 1
    assert [r.polygon.area for r in polygons_from_labels(labels, 1, block_px=4)] == [8, 1]
    (kept,) = polygons_from_labels(labels, 1, block_px=4, min_area_px=8)
    assert kept.polygon.area == 8


def test_order_is_by_class_then_position():
    labels = _labels("2010 0000 1002")
    found = [(r.class_index, r.polygon.bounds[:2]) for r in polygons_from_labels(labels, 2)]
    assert found == [(0, (2, 0)), (0, (0, 2)), (1, (0, 0)), (1, (3, 2))]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), block_px=st.integers(1, 9))
def test_drawing_the_polygons_gives_the_labels_back(data, block_px):
    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    labels = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 3, 255])))
    regions = list(polygons_from_labels(labels, 3, block_px=block_px))
    np.testing.assert_array_equal(_drawn(regions, shape), np.where(labels == 255, 0, labels))
    assert all(r.polygon.is_valid and r.polygon.exterior.is_ccw for r in regions)
    assert not any(hole.is_ccw for r in regions for hole in r.polygon.interiors)
    # the same polygons, vertex by vertex, as traced in one block
    whole = polygons_from_labels(labels, 3, block_px=100)
    assert [(r.class_index, r.polygon.wkt) for r in regions] == [
        (r.class_index, r.polygon.wkt) for r in whole
    ]


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, (9, 9), elements=st.sampled_from([0, 1, 2])))
def test_one_polygon_per_connected_region(labels):
    from skimage.measure import label

    expected = sum(label(labels == value, connectivity=1).max() for value in (1, 2))
    assert len(list(polygons_from_labels(labels, 2, block_px=4))) == expected


def test_real_masks_come_back_exactly():
    folder = DATA / "wsss4luad" / "images_and_masks" / "mask"
    if not folder.is_dir():
        pytest.skip(f"no WSSS4LUAD masks in {folder} (set WSSS_DATA)")
    from PIL import Image

    for path in sorted(folder.glob("*.png"))[:3]:
        mask = np.asarray(Image.open(path))
        labels = np.where(mask < 3, mask + 1, 0).astype(np.uint8)
        regions = list(polygons_from_labels(labels, 3, block_px=128))
        np.testing.assert_array_equal(_drawn(regions, labels.shape), labels)


@pytest.mark.parametrize(
    ("labels", "block_px", "says"),
    [
        (np.full((4, 4), 3, np.uint8), 2, "hold 3"),
        (np.zeros((2, 4, 4), np.uint8), 2, "uint8 of shape"),
        (np.zeros((4, 4), np.int32), 2, "not int32"),
        (np.zeros((4, 4), np.uint8), 0, "block size"),
    ],
)
def test_bad_labels_are_refused(labels, block_px, says):
    with pytest.raises(DataError, match=says):
        list(polygons_from_labels(labels, 2, block_px=block_px))


def test_damaged_chunk_is_reported_with_its_place(tmp_path):
    import zarr

    array = zarr.create_array(
        tmp_path / "labels.zarr",
        shape=(8, 8),
        chunks=(4, 4),
        dtype="uint8",
        fill_value=255,
        compressors=zarr.codecs.ZstdCodec(checksum=True),
    )
    array[:] = 1
    (region,) = polygons_from_labels(array, 2, block_px=4)
    assert region.polygon.area == 64
    chunk = tmp_path / "labels.zarr" / "c" / "1" / "0"
    chunk.write_bytes(chunk.read_bytes()[:-3] + b"abc")
    with pytest.raises(DataError, match="row 4, column 0"):
        list(polygons_from_labels(array, 2, block_px=4))
