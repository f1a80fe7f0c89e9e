"""Blocks that fill chunks of coarser levels write these themselves."""

from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.slides import create_pyramid


def pixels(height, width, seed=0):
    labels = np.random.default_rng(seed).integers(0, 4, (height // 8 + 1, width // 8 + 1))
    large = np.kron(labels, np.ones((8, 8), int))[:height, :width].astype(np.uint8)
    large[: height // 3, : width // 3] = 255
    return large


@pytest.mark.parametrize(("side", "filled"), [(64, 2), (32, 1), (48, 0), (16, 0), (128, 3)])
def test_levels_that_blocks_fill(tmp_path, side, filled):
    pyramid = create_pyramid(tmp_path / "p.zarr", (250, 190), chunk=16, levels=4)
    assert pyramid.filled_by(side) == filled


def test_no_more_levels_than_there_are(tmp_path):
    assert create_pyramid(tmp_path / "p.zarr", (60, 60), chunk=16, levels=2).filled_by(256) == 1


@pytest.mark.parametrize("method", ["mode", "mean"])
@pytest.mark.parametrize("shape", [(256, 192), (250, 190), (131, 97), (64, 64)])
def test_they_are_those_that_build_makes(tmp_path, method, shape):
    image = pixels(*shape)
    whole = create_pyramid(tmp_path / "whole.zarr", shape, chunk=16, fill_value=255)
    whole.write(0, 0, image)
    whole.build(method, (255,))
    blocks = create_pyramid(tmp_path / "blocks.zarr", shape, chunk=16, fill_value=255)
    filled = blocks.filled_by(64)
    for y in range(0, shape[0], 64):
        for x in range(0, shape[1], 64):
            block = image[y : y + 64, x : x + 64]
            blocks.write_levels(y, x, block, filled, method, (255,))
    for a, b in zip(whole.levels[: filled + 1], blocks.levels, strict=False):
        np.testing.assert_array_equal(a[:], b[:])
    for _ in blocks.build_steps(method, (255,), filled + 1):
        pass
    for a, b in zip(whole.levels, blocks.levels, strict=True):
        np.testing.assert_array_equal(a[:], b[:])
