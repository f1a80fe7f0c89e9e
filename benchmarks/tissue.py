"""Large JPEG-tiled slides for benchmarks, made by repeating real tissue and glass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

TILE_PX, PIECE_PX = 256, 512
LEVELS = (1, 4, 16)
MPP = 0.5


def tissue_pattern(data: Path, side_px: int = 2048) -> NDArray[np.uint8]:
    """Return (side, side, 3) of real tissue without seams: an image and its mirror images.

    Of the set ``glas`` in the folder `data`.
    """
    half = side_px // 2
    pieces = _pieces(sorted((data / "glas" / "images").iterdir()))
    canvas = np.empty((half, half, 3), np.uint8)
    for y in range(0, half, PIECE_PX):
        for x in range(0, half, PIECE_PX):
            canvas[y : y + PIECE_PX, x : x + PIECE_PX] = next(pieces)
    upper = np.concatenate([canvas, canvas[:, ::-1]], 1)
    return np.concatenate([upper, upper[::-1]], 0)


def _pieces(files: list[Path]) -> Iterator[NDArray[np.uint8]]:
    """Yield the upper left of every image that is large enough, over and over."""
    for file in itertools.cycle(files):
        with Image.open(file) as image:
            if min(image.size) >= PIECE_PX:
                yield np.asarray(image.convert("RGB"))[:PIECE_PX, :PIECE_PX]


def write_slide(
    path: Path,
    data: Path,
    side_px: int,
    tissue_share: float = 1.0,
    width_share: float = 1.0,
    mpp: float = MPP,
) -> Path:
    """Write a pyramid of (side, side) px at `mpp` µm/px with tissue in its upper left.

    Its rows hold tissue up to one share and its columns up to the other; the rest is glass.

    Levels are reduced by 4 and 16, as scanners store them. Every tile is encoded once and
    stored as often as it occurs. A file that is there is kept.
    """
    if path.exists():
        return path
    pattern = tissue_pattern(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    common = {
        "dtype": np.uint8,
        "tile": (TILE_PX, TILE_PX),
        "photometric": "ycbcr",
        "compression": "jpeg",
        "resolutionunit": "CENTIMETER",
    }
    with tifffile.TiffWriter(path, bigtiff=side_px > 30_000) as tif:
        for factor in LEVELS:
            side = side_px // factor
            tif.write(
                _tiles(pattern, side, factor, tissue_share, width_share),
                shape=(side, side, 3),
                resolution=(1e4 / mpp / factor, 1e4 / mpp / factor),
                subifds=len(LEVELS) - 1 if factor == 1 else None,
                subfiletype=0 if factor == 1 else 1,
                **common,
            )
    return path


def _tiles(
    pattern: NDArray[np.uint8], side: int, factor: int, height_share: float, width_share: float
) -> Iterator[bytes]:
    """Yield the encoded tiles of a level."""
    n = pattern.shape[0] // factor
    small = pattern.reshape(n, factor, n, factor, 3).mean((1, 3)).astype(np.uint8)
    repeat = max(1, TILE_PX // n)
    small = np.tile(small, (repeat, repeat, 1))
    per_side = small.shape[0] // TILE_PX
    encoded = {
        (y, x): _encode(small[y * TILE_PX : (y + 1) * TILE_PX, x * TILE_PX : (x + 1) * TILE_PX])
        for y in range(per_side)
        for x in range(per_side)
    }
    glass = _encode(np.full((TILE_PX, TILE_PX, 3), 243, np.uint8))
    count = -(-side // TILE_PX)
    rows, columns = (round(side * share / TILE_PX) for share in (height_share, width_share))
    for y in range(count):
        for x in range(count):
            yield encoded[y % per_side, x % per_side] if y < rows and x < columns else glass


def _encode(tile: NDArray[np.uint8]) -> bytes:
    return imagecodecs.jpeg8_encode(np.ascontiguousarray(tile), level=85)
