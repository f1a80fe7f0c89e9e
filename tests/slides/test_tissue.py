"""Glass in patches and tissue on slides."""

import numpy as np
import pytest

from napari_wsss.slides import TissueMask, glass_mask, open_slide, tissue_mask

PINK, PURPLE, GLASS = (225, 150, 190), (110, 70, 150), (243, 243, 242)


def slide_with(height=400, width=600, glass=GLASS):
    image = np.empty((height, width, 3), np.uint8)
    image[:] = glass
    noise = np.random.default_rng(0).integers(-4, 5, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def painted(color, rows=slice(100, 300), columns=slice(150, 450), **options):
    image = slide_with(**options)
    image[rows, columns] = color
    return image


# -- glass --------------------------------------------------------------------------


def test_glass_is_bright_and_large():
    image = np.full((40, 40, 3), 120, np.uint8)
    image[:10, :10] = 255  # 100 px
    image[20:27, 20:27] = 255  # 49 px
    image[30:32, 0:25] = 255  # 50 px
    expected = np.zeros((40, 40), bool)
    expected[:10, :10] = expected[30:32, 0:25] = True
    np.testing.assert_array_equal(glass_mask(image), expected)
    assert glass_mask(image, min_px=49)[22, 22]


def test_glass_luminance_is_that_of_pillow():
    from PIL import Image

    image = np.random.default_rng(1).integers(150, 256, (64, 64, 3), np.uint8)
    grey = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(glass_mask(image, luminance=210, min_px=0), grey > 210)


def test_glass_of_plain_images():
    assert glass_mask(np.full((8, 8, 3), 255, np.uint8)).all()
    assert not glass_mask(np.full((8, 8, 3), 200, np.uint8), min_px=1).any()
    assert not glass_mask(np.full((7, 7, 3), 255, np.uint8)).any()  # 49 px in all


# -- tissue -------------------------------------------------------------------------


@pytest.mark.parametrize("color", [PINK, PURPLE, (238, 215, 228), (200, 60, 120)], ids=str)
def test_stained_area_is_found(color):
    mask = tissue_mask(open_slide(painted(color)))
    expected = np.zeros((400, 600), bool)
    expected[100:300, 150:450] = True
    assert mask.scale == 1
    assert (mask.mask & expected).sum() > 0.98 * expected.sum()
    assert (mask.mask & ~expected).sum() < 0.05 * expected.sum()


@pytest.mark.parametrize(
    "glass", [GLASS, (255, 255, 255), (225, 222, 228), (0, 0, 0), (128, 128, 128)]
)
def test_empty_slides_do_not_crash(glass):
    mask = tissue_mask(open_slide(slide_with(glass=glass)))
    if min(glass) > 200 or max(glass) == 0:
        assert not mask.mask.any()


def test_all_tissue():
    mask = tissue_mask(open_slide(painted(PINK, slice(None), slice(None))))
    assert mask.share == 1


def test_fat_is_kept():
    image = painted(PINK)
    image[120:280:20, 170:430:20] = GLASS
    for y in range(115, 280, 20):
        for x in range(165, 430, 20):
            image[y : y + 14, x : x + 14] = GLASS
    assert tissue_mask(open_slide(image)).mask[110:290, 160:440].mean() > 0.98


@pytest.mark.parametrize(
    "ink", [(20, 120, 60), (30, 140, 140), (15, 15, 18)], ids=["green", "cyan", "black"]
)
def test_ink_and_black_borders_are_no_tissue(ink):
    image = painted(PINK)
    image[:40] = ink
    mask = tissue_mask(open_slide(image)).mask
    assert not mask[5:35].any()
    assert mask[150, 300]


def test_large_slide_is_reduced():
    slide = open_slide(
        np.kron(
            painted(PURPLE, height=100, width=150, rows=slice(25, 75), columns=slice(40, 110)),
            np.ones((8, 8, 1), np.uint8),
        )
    )
    mask = tissue_mask(slide, max_px=150)
    assert mask.mask.shape == (100, 150)
    assert mask.scale == 8
    assert mask.any_in(200, 320, 600, 880)
    assert not mask.any_in(0, 0, 150, 1200)


# -- looking it up ------------------------------------------------------------------


def test_any_in_counts_every_mask_pixel_touched():
    grid = np.zeros((4, 5), bool)
    grid[1, 2] = True
    mask = TissueMask(grid, 10.0)
    assert mask.any_in(10, 20, 20, 30)
    assert mask.any_in(19.5, 29.9, 100, 100)
    assert mask.any_in(-50, -50, 10.5, 20.5)
    assert not mask.any_in(0, 0, 10, 50)
    assert not mask.any_in(20, 0, 40, 50)
    assert not mask.any_in(500, 500, 600, 600)
    assert not mask.any_in(-20, -20, -5, -5)


@pytest.mark.parametrize("step", [1.0, 2.5, 10.0, 25.0])
def test_sample_is_the_mask_pixel_under_the_centre(step):
    grid = np.random.default_rng(0).random((6, 7)) < 0.5
    found = TissueMask(grid, 10.0).sample(-3, 2, 40, 50, step)
    for i in range(0, 40, 7):
        for j in range(0, 50, 7):
            y, x = int((i - 3 + 0.5) * step // 10), int((j + 2 + 0.5) * step // 10)
            inside = 0 <= y < 6 and 0 <= x < 7
            assert found[i, j] == (inside and grid[y, x])


def test_real_slides(real):
    cmu = tissue_mask(open_slide(real("cmu-1-small-region.svs")), max_px=600)
    assert 0.3 < cmu.share < 0.45
    assert not cmu.any_in(100, 100, 800, 400)  # glass
    assert cmu.any_in(1500, 800, 1600, 900)
    tcga = tissue_mask(open_slide(real("tcga-cr-7395-01a-01-ts1.svs")), max_px=600)
    assert 0.55 < tcga.share < 0.7
    assert not tcga.any_in(0, 0, 400, 2000)


def test_the_mask_of_a_file_is_kept_until_the_file_changes(tmp_path):
    import os

    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(path, painted(PINK), photometric="rgb")
    with open_slide(path) as slide:
        first = tissue_mask(slide)
    with open_slide(path) as again:
        assert tissue_mask(again) is first
        assert tissue_mask(again, max_px=100) is not first
    tifffile.imwrite(path, painted(PINK, rows=slice(0, 50)), photometric="rgb")
    os.utime(path, ns=(1, 1))
    with open_slide(path) as other:
        assert not np.array_equal(tissue_mask(other).mask, first.mask)


def test_the_mask_of_an_array_follows_it():
    """Another plugin may paint in its layer."""
    image = painted(PINK)
    slide = open_slide([image], mpp=0.5)
    before = tissue_mask(slide).mask.sum()
    image[:] = slide_with()
    assert tissue_mask(slide).mask.sum() < before


def test_a_mask_travels_in_few_bytes():
    grid = np.zeros((301, 203), bool)
    grid[40:190, 30:120] = True
    packed = TissueMask(grid, 7.5).packed()
    assert len(packed.bits) < 1000
    assert hash(packed) == hash(TissueMask(grid, 7.5).packed())
    found = packed.unpacked()
    assert found.mask.dtype == bool
    np.testing.assert_array_equal(found.mask, grid)
    assert found.scale == 7.5
