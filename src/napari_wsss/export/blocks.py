"""Reading a stored label image block by block, so that memory does not grow with the slide.

A stored label is the class index + 1; 0 is the background and 255 was not computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError, MissingResolutionError

__all__ = ["BACKGROUND", "NOT_COMPUTED", "LabelArray", "iter_blocks", "mpp_yx", "pair"]

#: Stored label of pixels that are no class: glass, or all classes gated away.
BACKGROUND = 0
#: Stored label of pixels that no block was computed for.
NOT_COMPUTED = 255


class LabelArray(Protocol):
    """What a label image must offer: a numpy, zarr or dask array of shape (H, W) does."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height and width."""

    @property
    def dtype(self) -> Any:
        """The uint8 data type."""

    def __getitem__(self, key: Any, /) -> Any: ...


def iter_blocks(
    labels: LabelArray, n_classes: int, block_px: int = 2048
) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
    """Yield the blocks of a label image, row by row.

    Parameters
    ----------
    labels
        Shape (H, W), uint8: class index + 1, 0 background, 255 not computed.
    n_classes
        Number of classes, K.
    block_px
        Side of a block; those at the right and lower border are smaller.

    Yields
    ------
    tuple[int, int, NDArray[np.uint8]]
        Row and column of the first pixel, and the pixels.

    Raises
    ------
    DataError
        If the array is not (H, W) uint8, cannot be read, or holds other labels.
    """
    if len(labels.shape) != 2 or labels.dtype != np.uint8:
        raise DataError(
            f"A label image is uint8 of shape (H, W), not {labels.dtype} of {labels.shape}."
        )
    if block_px < 1:
        raise DataError(f"The block size is {block_px} px; it must be positive.")
    height, width = labels.shape
    for y in range(0, height, block_px):
        for x in range(0, width, block_px):
            try:
                block = np.asarray(labels[y : y + block_px, x : x + block_px])
            # What zarr and its codecs raise for damaged or missing chunks.
            except (OSError, ValueError, RuntimeError, LookupError) as error:
                raise DataError(
                    f"The labels at row {y}, column {x} cannot be read: {error}. "
                    "The result is damaged; segment the slide again."
                ) from error
            found = np.flatnonzero(np.bincount(block.reshape(-1), minlength=256))
            unknown = [int(v) for v in found if n_classes < v < NOT_COMPUTED]
            if unknown:
                raise DataError(
                    f"The labels at row {y}, column {x} hold {', '.join(map(str, unknown))}; "
                    f"{n_classes} classes are stored as 1 to {n_classes}, beside "
                    f"{BACKGROUND} (background) and {NOT_COMPUTED} (not computed). "
                    "Use the class table that the slide was segmented with."
                )
            yield y, x, block


def pair(value: float | tuple[float, float], what: str) -> tuple[float, float]:
    """Return `value` as (y, x), both positive and finite; DataError naming `what` if not."""
    given = np.asarray(value, np.float64)
    if given.shape not in ((), (2,)) or not (np.isfinite(given) & (given > 0)).all():
        raise DataError(f"The {what} is {value}; it must be a positive number, or two (y, x).")
    y, x = np.broadcast_to(given, 2).tolist()
    return y, x


def mpp_yx(mpp: float | tuple[float, float] | None) -> tuple[float, float] | None:
    """Return µm/px as (y, x), or None if it is unknown; never a guess.

    Raises
    ------
    MissingResolutionError
        If a value is given that cannot be a resolution (0, NaN, negative).
    """
    if mpp is None:
        return None
    try:
        return pair(mpp, "resolution (µm/px)")
    except DataError as error:
        raise MissingResolutionError(
            f"{error} Give the slide's µm/px, or none to leave out areas in mm²."
        ) from None
