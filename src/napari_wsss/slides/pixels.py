"""Pixels of any common layout as RGB bytes, and the limits on what is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError

__all__ = ["WHITE", "check_downsamples", "check_dtype", "check_size", "to_rgb"]

#: Value of glass, used where a slide has no pixels.
WHITE = 255
#: Longest side (px) taken for real: 1 m at 0.1 µm/px.
MAX_SIDE_PX = 10_000_000
#: Largest area (px) taken for real.
MAX_AREA_PX = 10**12


def check_dtype(dtype: Any, where: str) -> None:
    """Raise SlideError naming `dtype` unless it is 8-bit unsigned."""
    if np.dtype(dtype) != np.uint8:
        raise SlideError(
            f"{where} has pixels of type {np.dtype(dtype)}; H&E slides are 8-bit RGB (uint8). "
            "Convert it to 8 bits first."
        )


def check_size(height: int, width: int, where: str) -> None:
    """Raise SlideError if a level is empty or larger than any slide can be."""
    if height < 1 or width < 1:
        raise SlideError(f"{where} has no pixels ({height} x {width}).")
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_AREA_PX:
        raise SlideError(
            f"{where} claims {height} x {width} px, more than any slide has. "
            "Its metadata are probably damaged."
        )


def check_downsamples(
    shapes: Sequence[tuple[int, int]], where: str
) -> tuple[tuple[float, float], ...]:
    """Return level-0 pixels per pixel of each level as (dy, dx).

    Sizes are whole pixels, so a level made by an integer factor is recognised and gets
    exactly that factor, which keeps the far edge of large slides in register.

    Raises
    ------
    SlideError
        If a level is larger than the one before, or has another aspect ratio.
    """
    (height, width), result = shapes[0], []
    for i, (h, w) in enumerate(shapes):
        if i and (h > shapes[i - 1][0] or w > shapes[i - 1][1]):
            raise SlideError(
                f"{where}: level {i} ({h} x {w}) is larger than level {i - 1} "
                f"({shapes[i - 1][0]} x {shapes[i - 1][1]}). Give the levels finest first."
            )
        dy, dx = _factor(height, h), _factor(width, w)
        # One pixel of rounding either way is all that two honest axes differ by.
        if abs(height / dx - h) > 1.5 and abs(width / dy - w) > 1.5:
            raise SlideError(
                f"{where}: level {i} ({h} x {w}) has another aspect ratio than level 0 "
                f"({height} x {width}); they are not levels of one image."
            )
        result.append((dy, dx))
    return tuple(result)


def _factor(full: int, reduced: int) -> float:
    whole = round(full / reduced)
    if whole and reduced in (full // whole, -(-full // whole)):
        return float(whole)
    return full / reduced


def to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return RGB; grey is repeated and alpha is composited on white.

    Parameters
    ----------
    pixels
        (H, W) or (H, W, C) with C = 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGB, alpha).

    Returns
    -------
    NDArray
        (H, W, 3) uint8.
    """
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    channels = pixels.shape[2]
    color = pixels[..., : channels - 1] if channels in (2, 4) else pixels
    if channels in (2, 4):
        alpha = pixels[..., -1:]
        if not (alpha == 255).all():
            a = alpha.astype(np.uint16)
            color = ((color * a + WHITE * (255 - a) + 127) // 255).astype(np.uint8)
    if color.shape[2] == 1:
        color = np.repeat(color, 3, axis=2)
    return np.ascontiguousarray(color)
