"""The winning class of every pixel, without enlarging the network's output where it is plain.

A network answers at a quarter of the resolution, say. Between its answers the logits are
interpolated, and an interpolated logit is a weighted mean of its neighbours: where one class
wins in all of them, it wins at every pixel between. So only the pixels along the borders of
classes, some per cent of them, need to be interpolated to know the winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.inference.gate import GateGrid, over_pixels
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import Rect

__all__ = ["label_map", "region_labels"]

#: Numbers that are interpolated at once: they stay in a processor's caches.
_AT_ONCE = 2**18


def label_map(logits: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Return (h, w) uint8 class indices: the arg-max of (K, h, w) logits, on their device.

    A class that is not `allowed`, (K, h, w) bool, cannot win; of equal ones the first does.
    """
    # Class by class: several times faster than argmax along the first axis on a CPU.
    return _winners(logits, allowed)


def _winners(logits: Iterable[Tensor], allowed: Tensor | None) -> Tensor:
    """Return uint8 indices of the largest of the logits, which come class by class."""
    labels = best = None
    for k, values in enumerate(logits):
        if allowed is not None:
            values = torch.where(allowed[k], values, -torch.inf)
        if labels is None or best is None:
            labels, best = torch.zeros_like(values, dtype=torch.uint8), values
            continue
        # The last class that beat all before it is the winner; filling by mask is slower.
        beaten = (values > best).view(torch.uint8).mul_(k)
        labels = torch.maximum(labels, beaten, out=labels)
        best = torch.maximum(best, values)
    assert labels is not None
    return labels


def region_labels(
    region: Region, rect: Rect, cells: Tensor | None = None, grid: GateGrid | None = None
) -> Tensor:
    """Return (height, width) uint8: `label_map` of a rectangle at the image's resolution.

    Parameters
    ----------
    region
        Network output that covers the rectangle.
    rect
        Part of the image.
    cells
        (K, ny, nx) bool: the classes that the gate leaves in each of its cells, as
        `allowed_cells` returns; None if they all stay.
    grid
        The gate's cells; needed with `cells`.
    """
    scale = _scale(region, rect)
    if scale is not None:
        per, period = scale
        if cells is None or grid is None:
            return _by_squares(region, rect, per, period, None)
        if rect.y % period == rect.x % period == grid.cell_px % period == 0:
            return _by_squares(region, rect, per, period, _over_squares(cells, grid, rect, period))
    device = region.logits.device
    allowed = None
    if cells is not None and grid is not None:
        allowed = over_pixels(cells.to(device), grid, rect)
    labels = torch.empty((rect.height, rect.width), dtype=torch.uint8, device=device)
    for rows, logits in region.strips(rect):
        labels[rows] = label_map(logits, None if allowed is None else allowed[:, rows])
    return labels


def _scale(region: Region, rect: Rect) -> tuple[int, int] | None:
    """Return (pixels of the map, pixels of the image) that lie alike again and again.

    None where squares do not serve: where the map is not coarser, or the rectangle begins within
    one, or on a GPU, which is fast anyway and would have to be waited for.
    """
    height, width = region.size or (region.logits.shape[1], region.logits.shape[2])
    rows, columns = Fraction(height, region.rect.height), Fraction(width, region.rect.width)
    if region.logits.device.type != "cpu" or rows != columns or rows >= 1:
        return None
    if (rect.y - region.rect.y) % rows.denominator or (rect.x - region.rect.x) % rows.denominator:
        return None
    return rows.numerator, rows.denominator


def _by_squares(
    region: Region, rect: Rect, per: int, period: int, allowed: Tensor | None
) -> Tensor:
    """Label squares of `period` px, `per` pixels of the map each, one row of strips at a time."""
    down, across = -(-rect.height // period), -(-rect.width // period)
    part = _with_border(region, rect, per, period, down, across)
    weights = _weights(per, period)
    out = torch.empty((down, period, across, period), dtype=torch.uint8)
    step = max(1, _AT_ONCE // (part[:, 0].numel() * max(1, per)))
    for top in range(0, down, step):
        end = min(top + step, down)
        here = None if allowed is None else allowed[:, top:end]
        _label_squares(part[:, top * per : end * per + 2], weights, per, here, out[top:end])
    return out.reshape(down * period, across * period)[: rect.height, : rect.width]


def _with_border(
    region: Region, rect: Rect, per: int, period: int, down: int, across: int
) -> Tensor:
    """Return the map under a rectangle in whole squares, and one pixel more all round.

    Beyond the map its outermost pixels are repeated, as the interpolation does.
    """
    height, width = region.size or (region.logits.shape[1], region.logits.shape[2])
    top = (rect.y - region.rect.y) // period * per - 1
    left = (rect.x - region.rect.x) // period * per - 1
    bottom, right = top + down * per + 2, left + across * per + 2
    y, x = region.origin
    # What was computed ends where the image does; beyond are pixels that nobody asked for.
    height, width = min(height, y + region.logits.shape[1]), min(width, x + region.logits.shape[2])
    inside = region.logits[
        :, max(top, y) - y : min(bottom, height) - y, max(left, x) - x : min(right, width) - x
    ]
    outside = (
        max(left, x) - left,
        right - min(right, width),
        max(top, y) - top,
        bottom - min(bottom, height),
    )
    if any(outside):
        inside = F.pad(inside[None], outside, mode="replicate")[0]
    return inside


def _label_squares(
    part: Tensor, weights: Tensor, per: int, allowed: Tensor | None, out: Tensor
) -> None:
    """Fill (n, period, m, period) from (K, n·per + 2, m·per + 2) of the map.

    A square that looks alike all over, and into its neighbours, has one label.
    """
    n, period, m, _ = out.shape
    part = part.contiguous()
    own = None if allowed is None else _over_map(allowed, per)
    first, last = _extent(label_map(part, own), per, n, m)
    mixed = first != last
    if own is not None:
        # Neighbours beyond a border of the gate were not labelled by the rules of this square.
        low, high = _extent(_code(own), per, n, m)
        mixed |= low != high
    lines = first.repeat_interleave(period, 1)[:, None]
    out.view(n, period, m * period).copy_(lines.expand(n, period, m * period))
    found = mixed.nonzero(as_tuple=True)
    step = max(1, _AT_ONCE // period**2)
    for begin in range(0, len(found[0]), step):
        y, x = (axis[begin : begin + step] for axis in found)
        here = None if allowed is None else allowed[:, y, x, None]
        _put(out, y, x, _interpolated(part, weights, per, y, x, here))


def _interpolated(
    part: Tensor, weights: Tensor, per: int, y: Tensor, x: Tensor, allowed: Tensor | None
) -> Tensor:
    """Return (N, period²): the labels of N squares pixel by pixel."""
    side, width = per + 2, part.shape[2]
    rows = (y * per)[:, None] + torch.arange(side)
    starts = (rows * width + (x * per)[:, None]).flatten()

    def logits() -> Iterator[Tensor]:
        for plane in part:
            # Overlapping runs of `side` numbers: one is fetched at a time, not one number.
            runs = plane.as_strided((plane.numel() - side + 1, side), (1, 1))
            yield runs.index_select(0, starts).view(len(y), side**2) @ weights

    return _winners(logits(), allowed)


def _put(out: Tensor, y: Tensor, x: Tensor, labels: Tensor) -> None:
    """Store (N, period²) labels in squares of (n, period, m, period)."""
    period = out.shape[1]
    lines = labels.view(-1, period, period)
    if period % 4 == 0:  # four at a time
        out, lines = out.view(torch.int32), lines.view(torch.int32)
    for row in range(period):
        out[:, row][y, x] = lines[:, row]


def _over_map(allowed: Tensor, per: int) -> Tensor:
    """Return what the gate leaves at each pixel of the map, and one more all round."""
    own = allowed.repeat_interleave(per, 1).repeat_interleave(per, 2)
    return F.pad(own[None].float(), (1, 1, 1, 1), mode="replicate")[0] > 0


def _extent(values: Tensor, per: int, n: int, m: int) -> tuple[Tensor, Tensor]:
    """Return the least and the largest value in the neighbourhood of each of n x m squares."""
    found = []
    for pick in (torch.minimum, torch.maximum):
        best = values
        for axis, count in ((0, n), (1, m)):
            places = [torch.arange(count) * per + offset for offset in range(per + 2)]
            best = reduce(pick, [best.index_select(axis, place) for place in places])
        found.append(best)
    return found[0], found[1]


def _code(allowed: Tensor) -> Tensor:
    """Return (h, w): one number for each set of allowed classes, from (K, h, w)."""
    bits = 2 ** torch.arange(len(allowed), dtype=torch.float64)
    return torch.tensordot(bits, allowed.double(), dims=1)


def _weights(per: int, period: int) -> Tensor:
    """Return ((per + 2)², period²): how much each pixel of the map adds to one of the image.

    Bilinear between the middles of pixels.
    """
    place = (torch.arange(period, dtype=torch.float64) + 0.5) * per / period + 0.5
    distance = (place[None] - torch.arange(per + 2, dtype=torch.float64)[:, None]).abs()
    line = (1 - distance).clamp_min(0)
    return torch.einsum("ai,bj->abij", line, line).reshape((per + 2) ** 2, period**2).float()


def _over_squares(cells: Tensor, grid: GateGrid, rect: Rect, period: int) -> Tensor:
    """Return (K, n, m): what the gate leaves in each square of a rectangle."""
    squares = GateGrid(grid.cell_px // period, grid.shape)
    down, across = -(-rect.height // period), -(-rect.width // period)
    return over_pixels(cells, squares, Rect(rect.y // period, rect.x // period, down, across))
