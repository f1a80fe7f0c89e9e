"""Arrays in memory, dask arrays and zarr arrays as levels of a slide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.pixels import check_dtype, check_size, to_rgb
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, Reader, read_error

__all__ = ["ArrayReader"]

_CHANNELS = (1, 2, 3, 4)
#: Sample of an array's pixels that enters its fingerprint, along each axis.
_SAMPLE = 256


class ArrayReader(Reader):
    """Anything with shape, dtype and slicing as a slide.

    Parameters
    ----------
    arrays
        One array per level, finest first: (H, W), (H, W, C) or (C, H, W) with C from 1 to 4,
        uint8. Numpy, dask and zarr arrays are read in place.
    where
        Description for messages.

    Raises
    ------
    SlideError
        If an array has another shape or type.
    """

    def __init__(self, arrays: Sequence[Any], where: str) -> None:
        if not arrays:
            raise SlideError(f"{where} has no levels.")
        self.where = where
        self.arrays = tuple(arrays)
        self.properties = {}
        self._first = tuple(_channels_first(a, f"{where}: level {i}") for i, a in _count(arrays))
        self.shapes = tuple(
            _plane(a.shape, first) for a, first in zip(arrays, self._first, strict=True)
        )
        for i, (height, width) in enumerate(self.shapes):
            check_dtype(arrays[i].dtype, where)
            check_size(height, width, f"{where}: level {i}")
        self.tiles = tuple(_tile(a, first) for a, first in zip(arrays, self._first, strict=True))

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a rectangle; lazy arrays are computed in the calling thread."""
        rows, columns = slice(y, y + height), slice(x, x + width)
        array, first = self.arrays[level], self._first[level]
        try:
            part = array[:, rows, columns] if first else array[rows, columns]
            if hasattr(part, "compute"):
                part = part.compute(scheduler="synchronous")
            block = np.asarray(part)
        except FOREIGN_ERRORS as error:
            raise read_error(error, self.where, level, y, x) from error
        return to_rgb(np.moveaxis(block, 0, -1) if first else block)

    def fingerprint(self) -> str:
        """Return the sha256 of shapes, types and a sample or, for dask, the graph's name."""
        digest = hashlib.sha256()
        for array, first in zip(self.arrays, self._first, strict=True):
            digest.update(repr((tuple(array.shape), str(array.dtype))).encode())
            if hasattr(array, "dask"):
                digest.update(str(array.name).encode())
                continue
            height, width = _plane(array.shape, first)
            if isinstance(array, np.ndarray):
                steps = (
                    slice(None, None, -(-height // _SAMPLE)),
                    slice(None, None, -(-width // _SAMPLE)),
                )
                sample = array[:, *steps] if first else array[steps]
            else:  # a strided read of a chunked store would touch every chunk
                corner = slice(0, _SAMPLE), slice(0, _SAMPLE)
                try:
                    sample = np.asarray(array[:, *corner] if first else array[corner])
                except FOREIGN_ERRORS as error:
                    raise read_error(error, self.where, 0, 0, 0) from error
            digest.update(np.ascontiguousarray(sample).tobytes())
        return digest.hexdigest()


def _count(arrays: Sequence[Any]) -> list[tuple[int, Any]]:
    return list(enumerate(arrays))


def _channels_first(array: Any, where: str) -> bool:
    shape = tuple(getattr(array, "shape", ()))
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in _CHANNELS):
        return False
    if len(shape) == 3 and shape[0] in _CHANNELS:
        return True
    raise SlideError(
        f"{where} has shape {shape}; an image is (H, W), (H, W, channels) or "
        "(channels, H, W) with 1 to 4 channels."
    )


def _plane(shape: Sequence[int], first: bool) -> tuple[int, int]:
    return (int(shape[1]), int(shape[2])) if first else (int(shape[0]), int(shape[1]))


def _tile(array: Any, first: bool) -> tuple[int, int]:
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        return 1024, 1024
    sizes = [c if isinstance(c, int) else max(c) for c in chunks]
    return _plane(sizes, first)
