"""Small slides made on the spot, and the real ones where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def picture() -> Callable[..., NDArray[np.uint8]]:
    """Return a maker of smooth, asymmetric RGB pictures with some noise."""

    def make(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[:height, :width]
        waves = np.stack([np.sin(y / 17 + c) * 50 + np.cos(x / 11 - c) * 50 for c in range(3)], -1)
        return np.clip(140 + waves + rng.normal(0, 8, waves.shape), 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def tiled_tiff(tmp_path, picture) -> Path:
    """A pyramidal TIFF of 3 levels, JPEG-free, 300 x 421 px, 64 px tiles, 0.5 µm/px."""
    path = tmp_path / "tiled.tif"
    image = picture(300, 421)
    with tifffile.TiffWriter(path) as file:
        for i in range(3):
            file.write(
                image[:: 2**i, :: 2**i],
                tile=(64, 64),
                compression="zlib",
                photometric="rgb",
                subfiletype=int(i > 0),
                resolution=(20000 / 2**i, 20000 / 2**i),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
    return path


@pytest.fixture
def real() -> Callable[[str], Path]:
    """Return a finder of real slides under WSSS_DATA; skips if they are absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("WSSS_DATA", ROOT / "../shared/data"))
        path = folder / "slides" / name
        if not path.is_file():
            pytest.skip(f"real slide {name} is not at hand; set WSSS_DATA to the data folder")
        return path

    return find
