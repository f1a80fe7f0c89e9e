"""A grid of patches over a slide: where each lies, which hold tissue, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError
from napari_wsss.slides import ResampledSlide, Slide, TissueMask

__all__ = ["MIN_TISSUE", "PatchGrid", "PatchReader", "patch_side"]

#: A patch is offered for labelling if tissue covers this share of it.
MIN_TISSUE = 0.25
#: Sides of a patch that networks and people can work with, in px.
_SIZES_PX = (8, 8192)


def patch_side(patch_um: float, mpp: float) -> int:
    """Return the side in px of a patch of `patch_um` µm at `mpp` µm/px.

    Raises
    ------
    DataError
        If nobody could work with so few or so many pixels.
    """
    low, high = _SIZES_PX
    side = round(patch_um / mpp)
    if not low <= side <= high:
        raise DataError(
            f"Patches of {patch_um:g} µm at {mpp:g} µm/px have a side of {side} px; "
            f"{low} to {high} px are possible."
        )
    return side


@dataclass(frozen=True)
class PatchGrid:
    """Square patches side by side, without gap or overlap, from the slide's first pixel on.

    Only whole patches count: a strip at the right and lower border that no patch fits into
    is left out. Patches are numbered row by row; such a number is called a *cell*.

    Attributes
    ----------
    rows, columns
        Number of patches along each side.
    size_px
        Side of a patch in its own pixels.
    mpp
        µm/px of the patches, as asked for; the slide is resampled to it.
    step_px
        Side of a patch (height, width) in level-0 pixels of the slide; not always whole.
    """

    rows: int
    columns: int
    size_px: int
    mpp: float
    step_px: tuple[float, float]

    @classmethod
    def over(cls, slide: Slide, patch_um: float, mpp: float) -> PatchGrid:
        """Lay a grid over a slide.

        Parameters
        ----------
        slide
            A slide whose µm/px are known.
        patch_um
            Side of a patch in µm; rounded to whole pixels of `mpp`.
        mpp
            µm/px of the patches.

        Raises
        ------
        DataError
            If the patches would have too few or too many pixels, or none fits the slide.
        MissingResolutionError
            If the µm/px of the slide are unknown.
        """
        size = patch_side(patch_um, mpp)
        grid = ResampledSlide(slide, mpp)
        rows, columns = (length // size for length in grid.shape)
        if not rows or not columns:
            height, width = (length * mpp for length in grid.shape)
            raise DataError(
                f"{slide.name} measures {width:.0f} x {height:.0f} µm, so no patch of "
                f"{patch_um:g} µm fits. Choose smaller patches."
            )
        dy, dx = grid.downsample
        return cls(rows, columns, size, float(mpp), (dy * size, dx * size))

    def __len__(self) -> int:
        return self.rows * self.columns

    @property
    def patch_um(self) -> float:
        """Side of a patch in µm."""
        return self.size_px * self.mpp

    def origin_px(self, cell: int) -> tuple[int, int]:
        """Return the first pixel (y, x) of a cell, in pixels of the patches."""
        row, column = divmod(int(cell), self.columns)
        return row * self.size_px, column * self.size_px

    def cell_at(self, y: float, x: float) -> int | None:
        """Return the cell that holds a point, None beside the grid.

        Parameters
        ----------
        y, x
            In level-0 pixels, 0 being the outer corner of the first pixel.
        """
        row, column = int(y // self.step_px[0]), int(x // self.step_px[1])
        if 0 <= row < self.rows and 0 <= column < self.columns:
            return row * self.columns + column
        return None

    def tissue_share(self, tissue: TissueMask) -> NDArray[np.float32]:
        """Return (rows, columns): the share of each patch that is tissue, 0 to 1."""
        # The integral of a mask is linear within its pixels, so interpolating it is exact.
        sums = np.pad(tissue.mask, ((1, 0), (1, 0))).astype(np.float64).cumsum(0).cumsum(1)
        edges = [
            np.arange(n + 1) * step / tissue.scale
            for n, step in zip((self.rows, self.columns), self.step_px, strict=True)
        ]
        at_rows = _between(sums, edges[0])
        corners = _between(at_rows.T, edges[1]).T
        area = np.diff(np.diff(corners, axis=0), axis=1)
        step_y, step_x = self.step_px
        return (area * tissue.scale**2 / (step_y * step_x)).astype(np.float32)


class PatchReader:
    """Reads the patches of a grid; safe to call from many threads.

    Parameters
    ----------
    slide, grid
        The slide, and a grid that was laid over it.
    """

    def __init__(self, slide: Slide, grid: PatchGrid) -> None:
        self.grid = grid
        self._pixels = ResampledSlide(slide, grid.mpp)

    def __call__(self, cell: int) -> NDArray[np.uint8]:
        """Return the RGB pixels (size_px, size_px, 3) of a cell.

        Raises
        ------
        SlideError
            If the slide cannot be read there.
        """
        size = self.grid.size_px
        return self._pixels.read(*self.grid.origin_px(cell), size, size)


def _between(values: NDArray[np.float64], at: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the rows of `values` at fractional positions, linearly between them."""
    at = np.clip(at, 0, len(values) - 1)
    low = np.minimum(at.astype(np.int64), len(values) - 2)
    part = (at - low)[:, None]
    return values[low] * (1 - part) + values[low + 1] * part
