"""Masks and maps as pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError

__all__ = ["colorize", "heatmap", "legend", "overlay"]


def colorize(
    mask: NDArray[Any], classes: ClassTable, background: tuple[int, int, int] | None = (255,) * 3
) -> NDArray[np.uint8]:
    """Paint a mask in the colours of its classes.

    Parameters
    ----------
    mask
        Class indices, shape (H, W); all that is not 0 ... K-1 is no class.
    classes
        The K classes.
    background
        Colour of pixels that are no class; None leaves them transparent.

    Returns
    -------
    NDArray[np.uint8]
        Shape (H, W, 3), or (H, W, 4) if `background` is None.

    Raises
    ------
    DataError
        If the mask is not a two-dimensional array of integers.
    """
    indices, is_class = _indices(mask, len(classes))
    table = np.vstack([classes.rgb, np.array(background or (0, 0, 0), np.uint8)])
    picture = table[indices]
    if background is None:
        return np.dstack([picture, np.where(is_class, 255, 0).astype(np.uint8)])
    return picture


def overlay(
    image: NDArray[np.uint8], mask: NDArray[Any], classes: ClassTable, alpha: float = 0.45
) -> NDArray[np.uint8]:
    """Lay the colours of a mask over its image; pixels that are no class stay as they are.

    Parameters
    ----------
    image
        Shape (H, W, 3), 0 to 255.
    mask
        Class indices, shape (H, W).
    classes
        The classes of the mask.
    alpha
        Weight of the class colour, 0 to 1.

    Returns
    -------
    NDArray[np.uint8]
        Shape (H, W, 3).

    Raises
    ------
    DataError
        If image and mask differ in size.
    """
    image = np.asarray(image)
    if image.shape != (*np.shape(mask), 3):
        raise DataError(
            f"An image of shape {image.shape} and a mask of shape {np.shape(mask)} do not "
            "belong together; (H, W, 3) and (H, W) are needed."
        )
    _, is_class = _indices(mask, len(classes))
    mixed = (1 - alpha) * image + alpha * colorize(mask, classes)
    return np.where(is_class[..., None], np.rint(mixed), image).astype(np.uint8)


def heatmap(values: NDArray[Any], colormap: str = "inferno") -> NDArray[np.uint8]:
    """Paint a map of values between 0 and 1.

    Parameters
    ----------
    values
        Shape (H, W); clipped to 0 ... 1, NaN becomes white.
    colormap
        Name of a matplotlib colour map, best a perceptually uniform one.

    Returns
    -------
    NDArray[np.uint8]
        Shape (H, W, 3).

    Raises
    ------
    DataError
        If `values` is not two-dimensional or there is no such colour map.
    """
    from matplotlib import colormaps

    values = np.asarray(values, np.float32)
    if values.ndim != 2:
        raise DataError(f"A map has shape (H, W), not {values.shape}.")
    if colormap not in colormaps:
        raise DataError(f"There is no colour map {colormap!r}; 'inferno' and 'viridis' are two.")
    known = np.isfinite(values)
    steps = (np.clip(np.where(known, values, 0), 0, 1) * 255).round().astype(np.uint8)
    # Looking 256 colours up beats calling the colour map on every pixel.
    table = colormaps[colormap](np.arange(256) / 255, bytes=True)[:, :3]
    return np.where(known[..., None], table[steps], np.uint8(255))


def legend(classes: ClassTable) -> list[tuple[str, str]]:
    """Return the name and the ``"#rrggbb"`` colour of each class, in order."""
    return [(c.name, c.color) for c in classes.classes]


def _indices(mask: NDArray[Any], k: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return indices with K for "no class", and where there is a class; both (H, W)."""
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.dtype.kind not in "iu":
        raise DataError(
            f"A mask holds class indices in shape (H, W), not {mask.dtype} in {mask.shape}."
        )
    is_class = (mask >= 0) & (mask < k)
    return np.where(is_class, mask, k).astype(np.uint8), is_class
