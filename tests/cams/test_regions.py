from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.cams import read_region
from napari_wsss.errors import DataError, MissingResolutionError
from napari_wsss.slides import open_slide


@pytest.fixture
def pixels():
    """Columns of red growing from left to right, rows of green from top to bottom."""
    y, x = np.indices((240, 320))
    return np.stack([x // 2, y, np.full_like(x, 9)], -1).astype(np.uint8)


def test_at_the_resolution_of_the_slide_pixels_are_untouched(pixels):
    region = read_region(open_slide(pixels, mpp=0.5), 0.5, 30.4, 50.2, 64, 80)
    np.testing.assert_array_equal(region.image, pixels[30:94, 50:130])
    assert region.origin == (30, 50)
    assert region.downsample == (1, 1)


@pytest.mark.parametrize("factor", [2, 3, 0.5])
def test_pixels_lie_where_the_region_says(pixels, factor):
    region = read_region(open_slide(pixels, mpp=0.5), 0.5 * factor, 60, 90, 96, 120)
    rows, columns, _ = region.image.shape
    assert (rows, columns) == (96 / factor, 120 / factor)
    # Green is the row of level 0, red half its column: read back where the pixels lie.
    y = region.origin[0] + np.arange(rows) * region.downsample[0]
    x = region.origin[1] + np.arange(columns) * region.downsample[1]
    inner = slice(2, -2)
    np.testing.assert_allclose(region.image[:, 5, 1][inner], y[inner], atol=0.51)
    np.testing.assert_allclose(region.image[5, :, 0][inner], x[inner] / 2, atol=0.76)


def test_it_is_cut_off_at_the_border(pixels):
    region = read_region(open_slide(pixels, mpp=0.5), 0.5, -50, 300, 100, 100)
    np.testing.assert_array_equal(region.image, pixels[:50, 300:])


@pytest.mark.parametrize(
    ("y", "x", "side", "reason"),
    [(500, 0, 50, "outside"), (-90, 0, 50, "outside"), (10, 10, 9, "9 x 9 px")],
)
def test_regions_without_use_are_refused(pixels, y, x, side, reason):
    with pytest.raises(DataError, match=reason):
        read_region(open_slide(pixels, mpp=0.5), 0.5, y, x, side, side)


def test_too_large_regions_are_refused_before_they_are_read(pixels):
    slide = open_slide(np.zeros((4200, 2050, 3), np.uint8), mpp=0.5)
    with pytest.raises(DataError, match="map the whole slide"):
        read_region(slide, 0.5, 0, 0, 4200, 2050)


def test_resolutions_are_never_assumed(pixels):
    with pytest.raises(MissingResolutionError, match="does not say"):
        read_region(open_slide(pixels), 0.5, 0, 0, 50, 50)
    with pytest.raises(MissingResolutionError, match="classifier"):
        read_region(open_slide(pixels, mpp=0.5), None, 0, 0, 50, 50)
