"""Resampling: right place, right brightness, and the same bytes however it is tiled."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.errors import MissingResolutionError, SlideError
from napari_wsss.slides import ResampledSlide, open_slide
from napari_wsss.slides import resample as module


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def whole(grid):
    return grid.read(0, 0, *grid.shape)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    mpp=st.floats(0.1, 4),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_any_tiling_gives_the_same_bytes(height, width, mpp, seed, data):
    image = noise(height, width, seed)
    levels = [image, image[: max(1, height // 2), : max(1, width // 2)]]
    grid = ResampledSlide(open_slide(levels, mpp=0.5), mpp)
    expected = whole(grid)
    rows, columns = grid.shape
    for _ in range(4):
        y = data.draw(st.integers(-5, rows))
        x = data.draw(st.integers(-5, columns))
        h = data.draw(st.integers(0, rows + 5))
        w = data.draw(st.integers(0, columns + 5))
        padded = np.pad(expected, ((5, h + 5), (5, w + 5), (0, 0)), constant_values=255)
        np.testing.assert_array_equal(
            grid.read(y, x, h, w), padded[y + 5 : y + 5 + h, x + 5 : x + 5 + w]
        )


def test_large_reads_are_split_without_a_seam(monkeypatch):
    grid = ResampledSlide(open_slide(noise(200, 150), mpp=0.25), 0.65)
    expected = whole(grid)
    monkeypatch.setattr(module, "_MAX_SOURCE_PX", 500)
    np.testing.assert_array_equal(whole(grid), expected)


@pytest.mark.parametrize("factor", [0.37, 0.5, 1.7, 2.0, 3.3, 8.0])
def test_shape_and_constant(factor):
    flat = np.full((101, 53, 3), 137, np.uint8)
    grid = ResampledSlide(open_slide(flat, mpp=0.5), 0.5 * factor)
    assert grid.shape == (int(np.ceil(101 / factor)), int(np.ceil(53 / factor)))
    assert grid.mpp == pytest.approx(0.5 * factor)
    assert grid.downsample == pytest.approx((factor, factor))
    assert (whole(grid) == 137).all()


def test_halving_a_ramp_keeps_positions():
    ramp = np.repeat(np.arange(0, 200, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    line = whole(ResampledSlide(open_slide(ramp, mpp=1), 4.0))[0, :, 0].astype(float)
    # The centre of output pixel i lies at 4 i + 1.5 on the source.
    np.testing.assert_allclose(line[2:-2], np.arange(50)[2:-2] * 4 + 1.5, atol=0.51)


def test_noise_is_averaged_not_sampled():
    out = whole(ResampledSlide(open_slide(noise(400, 400), mpp=0.25), 2.0)).astype(float)
    assert out.std() < 73.9 / 5  # one pixel has 73.9; a triangle over 16 px a tenth of it


@pytest.mark.parametrize(
    ("mpp", "level"), [(0.2, 0), (0.25, 0), (0.4, 0), (0.499, 1), (0.9, 1), (1.0, 2), (30, 2)]
)
def test_coarsest_level_that_is_fine_enough(mpp, level):
    image = noise(400, 400)
    slide = open_slide([image, image[::2, ::2], image[::4, ::4]], mpp=0.25)
    assert ResampledSlide(slide, mpp).level == level


def test_within_one_percent_pixels_are_untouched():
    image = noise(301, 203)
    grid = ResampledSlide(open_slide(image, mpp=0.499), 0.5)
    np.testing.assert_array_equal(whole(grid), image)
    assert (grid.mpp, grid.downsample) == (pytest.approx(0.499), (1.0, 1.0))


def test_without_resolution():
    slide = open_slide(noise(10, 12))
    np.testing.assert_array_equal(whole(ResampledSlide(slide, None)), slide.levels[0])
    assert ResampledSlide.at_downsample(slide, 3).shape == (4, 4)
    with pytest.raises(MissingResolutionError, match="--mpp"):
        ResampledSlide(slide, 0.5)
    with pytest.raises(SlideError, match="positive"):
        ResampledSlide.at_downsample(slide, 0)


def test_levels_with_rounded_sizes_stay_in_register():
    slide = open_slide([np.zeros((3567, 4443), np.uint8), np.zeros((1783, 2221), np.uint8)])
    assert slide.downsamples == ((1.0, 1.0), (2.0, 2.0))


def test_one_pixel_slide():
    grid = ResampledSlide(open_slide(np.full((1, 1, 3), 9, np.uint8), mpp=0.25), 10)
    assert grid.shape == (1, 1)
    assert (grid.read(0, 0, 1, 1) == 9).all()
