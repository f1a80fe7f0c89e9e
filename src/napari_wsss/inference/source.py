"""Reading pixels beyond an image's border as its mirror image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_wsss.slides import ResampledSlide

__all__ = ["Source", "array_source", "mirror", "slide_source"]

Read = Callable[[int, int, int, int], NDArray[np.uint8]]


class Source:
    """An image on the model's grid, defined everywhere.

    The image is padded, never the tile: a pixel beyond the border has the same value
    whichever tile asks for it.

    Parameters
    ----------
    read
        ``read(y, x, height, width)`` within the image, (h, w, 3) uint8.
    shape
        (H, W).
    """

    def __init__(self, read: Read, shape: tuple[int, int]):
        self._read = read
        self.shape = shape

    def read(self, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return (height, width, 3); rows and columns outside are mirrored inside."""
        rows = mirror(y, height, self.shape[0])
        columns = mirror(x, width, self.shape[1])
        top, left = int(rows.min()), int(columns.min())
        inner = self._read(top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1)
        if y >= 0 and x >= 0 and y + height <= self.shape[0] and x + width <= self.shape[1]:
            return inner
        return inner[(rows - top)[:, None], (columns - left)[None, :]]


def mirror(start: int, count: int, size: int) -> NDArray[np.int64]:
    """Return positions ``start ... start + count - 1`` folded into ``0 ... size - 1``."""
    position = np.arange(start, start + count) % (2 * size)
    return np.where(position < size, position, 2 * size - 1 - position)


def array_source(image: NDArray[np.uint8]) -> Source:
    """Return an (H, W, 3) uint8 array as a source."""

    def read(y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        return image[y : y + height, x : x + width]

    return Source(read, (image.shape[0], image.shape[1]))


def slide_source(slide: ResampledSlide) -> Source:
    """Return a slide resampled to the model's µm/px as a source."""
    return Source(slide.read, slide.shape)
