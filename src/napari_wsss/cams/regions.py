"""A rectangle of a slide as the classifier sees it, and where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.cams.explain import LARGEST_PX, SMALLEST_SIDE_PX
from napari_wsss.errors import DataError, MissingResolutionError
from napari_wsss.slides import ResampledSlide, Slide

__all__ = ["SlideRegion", "read_region"]


@dataclass(frozen=True, eq=False)
class SlideRegion:
    """Pixels of a slide at a model's resolution.

    Attributes
    ----------
    image
        (H, W, 3) uint8.
    downsample
        Level-0 pixels of the slide per pixel, (y, x).
    origin
        Centre (y, x) of the first pixel, in level-0 pixels, where the centre of the slide's
        first pixel is (0, 0).
    """

    image: NDArray[np.uint8]
    downsample: tuple[float, float]
    origin: tuple[float, float]


def read_region(
    slide: Slide,
    mpp: float | None,
    y: float,
    x: float,
    height: float,
    width: float,
) -> SlideRegion:
    """Read a rectangle of a slide at the resolution of a model.

    Parameters
    ----------
    slide
        The slide; its µm/px must be known.
    mpp
        µm/px of the model.
    y, x, height, width
        The rectangle in level-0 pixels, (0, 0) being the slide's upper left corner. It is
        moved to whole pixels of the model's grid, and cut off at the slide's border.

    Returns
    -------
    SlideRegion
        The pixels are those that `map_slide` sees.

    Raises
    ------
    MissingResolutionError
        If the µm/px of slide or model is not known.
    DataError
        If the rectangle misses the slide, or is too small or too large to be explained.
    SlideError
        If the slide cannot be read there.
    """
    if mpp is None:
        raise MissingResolutionError(
            "The classifier does not say at how many µm/px it was trained, because its patches "
            "did not. Give it."
        )
    grid = ResampledSlide(slide, mpp)
    (y0, y1), (x0, x1) = (
        (max(0, round(start / step)), min(size, round((start + length) / step)))
        for start, length, step, size in zip(
            (y, x), (height, width), grid.downsample, grid.shape, strict=True
        )
    )
    rows, columns = y1 - y0, x1 - x0
    if rows <= 0 or columns <= 0:
        raise DataError(f"The region lies outside {slide.name}. Draw it on the slide.")
    if min(rows, columns) < SMALLEST_SIDE_PX or rows * columns > LARGEST_PX:
        raise DataError(
            f"The region has {columns} x {rows} px at the classifier's {grid.mpp or mpp:.3g} "
            f"µm/px; from {SMALLEST_SIDE_PX} x {SMALLEST_SIDE_PX} to 2048 x 2048 px can be "
            "looked at. Draw another one, or map the whole slide."
        )
    dy, dx = grid.downsample
    return SlideRegion(
        grid.read(y0, x0, rows, columns),
        grid.downsample,
        ((y0 + 0.5) * dy - 0.5, (x0 + 0.5) * dx - 0.5),
    )
