"""Pages of patches as pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.jobs import run_job
from napari_wsss.patches import load_patches
from napari_wsss.patches.mosaic import mosaic_job


@pytest.fixture
def patches(tmp_path):
    for name, shade in (("dark", 10), ("light", 250)):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (120, 120), (shade,) * 3).save(tmp_path / name / f"{name}{i}.png")
    (tmp_path / "light" / "light2.png").write_bytes(b"broken")
    return load_patches(tmp_path)


def test_every_patch_stands_above_the_colour_of_its_class(patches):
    page = run_job(mosaic_job(patches, [0, 3, 1]))
    assert page.columns == 3
    height, width = page.cell_px
    for place, (index, shade) in enumerate(((0, 10), (3, 250), (1, 10))):
        y, x = 0, place * width
        assert page.at(y + 60, x + 60) == index
        assert tuple(page.picture[y + 60, x + 60]) == (shade, shade, shade, 255)
        color = patches.classes.rgb[np.flatnonzero(patches.labels[index])[0]]
        assert tuple(page.picture[y + 122, x + 1, :3]) == tuple(color)
    assert page.at(height + 5, 5) is None
    assert page.at(5, 3 * width + 5) is None
    assert page.at(-1, 5) is None
    assert not page.unreadable


def test_what_cannot_be_read_is_said_and_does_not_stop_the_rest(patches):
    page = run_job(mosaic_job(patches, range(6)))
    assert len(page.unreadable) == 1
    assert "light2.png" in page.unreadable[0]
    assert len(page.indices) == 6
    row, column = 5 // page.columns, 5 % page.columns
    y, x = row * page.cell_px[0], column * page.cell_px[1]
    assert tuple(page.picture[y + 5, x + 5, :3]) == (128, 128, 128)


def test_large_patches_are_drawn_smaller(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (1000, 500)).save(tmp_path / name / f"{name}.png")
    page = run_job(mosaic_job(load_patches(tmp_path), [0, 1]))
    assert max(page.picture.shape) < 500
