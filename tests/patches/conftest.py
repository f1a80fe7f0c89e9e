"""Small files to build patch sets from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WriteImage = Callable[..., Path]
WriteMask = Callable[..., Path]


@pytest.fixture
def write_image() -> WriteImage:
    """Write an RGB picture of noise; equal seeds give equal pixels."""

    def write(path: Path, *, seed: int = 0, height: int = 8, width: int = 8) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
        return path

    return write


@pytest.fixture
def write_mask() -> WriteMask:
    """Write an array as a palette PNG."""

    def write(path: Path, values: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = Image.fromarray(np.asarray(values, np.uint8))
        mask.putpalette([255 - v for v in range(256) for _ in range(3)])
        mask.save(path)
        return path

    return write
