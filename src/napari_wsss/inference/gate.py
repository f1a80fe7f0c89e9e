"""The gate: classes that are absent from a neighbourhood cannot win there.

The image is divided into windows of about the size of a training patch (the power of two next
to it, so that blocks of whole chunks hold whole windows), at half their stride, on a grid
that begins at the image's first pixel. The gate head's mean over a window says
which classes it holds. A class that a pixel is of lies in every window that covers the pixel,
so all of them are asked: it is allowed where the mean of what they say (of their logits) is
above a threshold, or, by the setting ``gate_windows = "any"``, what one of them says. The grid is
global, so the result does not depend on blocks or tiles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.classes import IGNORE
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import Rect

__all__ = [
    "GateGrid",
    "allowed_by_labels",
    "allowed_by_presence",
    "allowed_cells",
    "over_pixels",
]

Windows = Literal["mean", "any"]


@dataclass(frozen=True)
class GateGrid:
    """Cells of half a window on an image of `shape`.

    Attributes
    ----------
    cell_px
        Side of a cell.
    shape
        (H, W) of the image; pixels beyond it do not count.
    """

    cell_px: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, patch_size_px: int, shape: tuple[int, int]) -> GateGrid:
        """Return the grid for training patches of this side."""
        return cls(2 ** max(0, round(math.log2(patch_size_px / 2))), shape)

    def margin_px(self, side: int) -> int:
        """Return how far beyond blocks of `side` px, on a grid of them, windows reach."""
        return self.cell_px if side % self.cell_px == 0 else 2 * self.cell_px - 1

    def cells(self, start: int, count: int, axis: int) -> tuple[int, int]:
        """Return (first, end) of the cells that overlap an interval within the image."""
        end = min(start + count, self.shape[axis])
        return max(start, 0) // self.cell_px, -(-end // self.cell_px)


def allowed_by_presence(
    region: Region, grid: GateGrid, rect: Rect, threshold: float, windows: Windows = "mean"
) -> Tensor:
    """Return (K, height, width) bool: the classes that the gate leaves at each pixel.

    Parameters
    ----------
    region
        Output that is right in `rect` and as far around it as windows reach.
    grid
        The windows.
    rect
        A rectangle within the image.
    threshold
        Classes whose probability is at or below this are absent; the most probable class always
        stays.
    windows
        Whether a class's logit is the mean of the windows over a pixel, or the largest of them.
    """
    cells = allowed_cells(region, grid, rect, threshold, windows)
    return over_pixels(cells.to(region.logits.device), grid, rect)


def allowed_cells(
    region: Region, grid: GateGrid, rect: Rect, threshold: float, windows: Windows = "mean"
) -> Tensor:
    """Return (K, ny, nx) bool: the classes that the gate leaves in each cell of a rectangle.

    Parameters
    ----------
    region, grid, rect, threshold, windows
        As in `allowed_by_presence`.
    """
    spans = [grid.cells(rect.y, rect.height, 0), grid.cells(rect.x, rect.width, 1)]
    # One cell more on each side, because windows of neighbours reach into the block.
    sums, area = _cell_sums(region, grid, [(a - 1, b + 1) for a, b in spans])
    window_area = _pairs(area)
    inside = window_area > 1e-6  # windows beyond the image say nothing
    said = _pairs(sums) / window_area.clamp_min(1e-6)
    if windows == "any":
        logit = F.max_pool2d(said.masked_fill(~inside, -torch.inf), 2, stride=1)
    else:
        logit = _pairs(said.masked_fill(~inside, 0.0)) / _pairs(inside.double()).clamp_min(1)
    return (torch.sigmoid(logit) > threshold) | (logit == logit.amax(0, keepdim=True))


def over_pixels(cells: Tensor, grid: GateGrid, rect: Rect) -> Tensor:
    """Return (K, height, width) of what was found for the cells (K, ny, nx) of a rectangle."""
    rows = _spread(cells, grid.cell_px, rect.y, rect.height, 1)
    return _spread(rows, grid.cell_px, rect.x, rect.width, 2)


def _spread(cells: Tensor, cell_px: int, start: int, count: int, axis: int) -> Tensor:
    """Repeat cells along an axis so that they cover the pixels [start, start + count)."""
    offset = start % cell_px
    return cells.repeat_interleave(cell_px, axis).narrow(axis, offset, count)


def allowed_by_labels(
    truth: NDArray[np.uint8], n_classes: int, window_px: int, min_share: float
) -> NDArray[np.bool_]:
    """Return (K, H, W): the classes that a true mask has in each window (oracle labels).

    The image is cut into windows of the size of a training patch; the last one of a row
    or column is shifted back inside, as patches are. A class is present where it covers at
    least `min_share` of a window, which is how patch labels are derived from masks.

    Parameters
    ----------
    truth
        (H, W) class indices, 255 ignored.
    n_classes
        K.
    window_px
        Side of a window.
    min_share
        Share of the window's pixels.
    """
    height, width = truth.shape
    allowed = np.zeros((n_classes, height, width), bool)
    for top in range(0, height, window_px):
        for left in range(0, width, window_px):
            y0, x0 = max(0, min(top, height - window_px)), max(0, min(left, width - window_px))
            window = truth[y0 : y0 + window_px, x0 : x0 + window_px]
            counts = np.bincount(window[window != IGNORE], minlength=n_classes)[:n_classes]
            present = counts >= max(1, min_share * window.size)
            if not present.any():
                present = counts == counts.max()
            allowed[:, top : top + window_px, left : left + window_px] = present[:, None, None]
    return allowed


def _cell_sums(
    region: Region, grid: GateGrid, spans: list[tuple[int, int]]
) -> tuple[Tensor, Tensor]:
    """Return the sums (K, ny, nx) of the presence map over cells, and the cells' areas.

    Both in pixels of the image; what lies beyond the image does not count.
    """
    at, presence = region.rect, region.presence
    if presence.device.type == "mps":  # which has no double precision
        presence = presence.cpu()
    rows = _overlap(spans[0], grid.cell_px, grid.shape[0], at.y, at.height, presence.shape[1])
    columns = _overlap(spans[1], grid.cell_px, grid.shape[1], at.x, at.width, presence.shape[2])
    rows, columns = rows.to(presence.device), columns.to(presence.device)
    sums = rows @ presence.double() @ columns.T
    area = rows.sum(1)[:, None] * columns.sum(1)[None, :]
    return sums, area[None]


def _overlap(
    span: tuple[int, int], cell_px: int, size: int, start: int, count: int, pixels: int
) -> Tensor:
    """Return (cells, pixels): how many image pixels each cell shares with each map pixel."""
    step = count / pixels
    begin = start + torch.arange(pixels, dtype=torch.float64) * step
    first = torch.arange(span[0], span[1], dtype=torch.float64)[:, None] * cell_px
    low = torch.maximum(begin[None], first.clamp(0, size))
    high = torch.minimum(begin[None] + step, (first + cell_px).clamp(0, size))
    return (high - low).clamp_min(0)


def _pairs(cells: Tensor) -> Tensor:
    """Return sums over 2 x 2 neighbours, (K, n - 1, m - 1)."""
    rows = cells[:, 1:] + cells[:, :-1]
    return rows[:, :, 1:] + rows[:, :, :-1]
