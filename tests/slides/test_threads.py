"""Reading from several threads gives what one thread reads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from napari_wsss.slides import Pyramid, convert_slide, create_pyramid, open_slide


@pytest.mark.parametrize("kind", ["tiff", "zarr", "openslide"])
def test_concurrent_reads(tiled_tiff, tmp_path, picture, kind):
    if kind == "openslide":
        pytest.importorskip("openslide")
        from napari_wsss.slides import Slide
        from napari_wsss.slides.readers.openslide import OpenSlideReader

        slide = Slide.from_reader(OpenSlideReader(tiled_tiff), "a")
    else:
        source = (
            tiled_tiff
            if kind == "tiff"
            else convert_slide(tiled_tiff, tmp_path / "a.zarr", chunk=64)
        )
        slide = open_slide(source)
    image = picture(300, 421)
    corners = [(y, x) for y in range(0, 250, 37) for x in range(0, 350, 41)]
    with ThreadPoolExecutor(4) as pool:
        regions = list(pool.map(lambda c: slide.read_region(0, *c, 50, 60), corners))
    for (y, x), region in zip(corners, regions, strict=True):
        np.testing.assert_array_equal(region, image[y : y + 50, x : x + 60])


def test_concurrent_updates_of_shared_chunks(tmp_path):
    pixels = np.random.default_rng(0).integers(1, 5, (128, 128), np.uint8)
    pyramid = create_pyramid(tmp_path / "a.zarr", pixels.shape, chunk=32)

    def one(corner):
        y, x = corner
        pyramid.write(y, x, pixels[y : y + 32, x : x + 32])
        pyramid.update(y, x, 32, 32, "mode")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, [(y, x) for y in range(0, 128, 32) for x in range(0, 128, 32)]))
    after = [level[:] for level in pyramid.levels]
    Pyramid(pyramid.group, pyramid.levels).build("mode")
    for level, before in zip(pyramid.levels, after, strict=True):
        np.testing.assert_array_equal(level[:], before)
