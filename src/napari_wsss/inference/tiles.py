"""Rectangles of an image, and what a network must read to be right in one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["BlendedTiles", "ExactTiles", "Rect"]


class Rect(NamedTuple):
    """A rectangle in pixels of the model's grid."""

    y: int
    x: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"y={self.y}, x={self.x}, {self.height} x {self.width} px"

    def halves(self) -> tuple[Rect, ...]:
        """Return the rectangle cut into up to four, for lack of memory."""
        top, left = -(-self.height // 2), -(-self.width // 2)
        rows = [(self.y, top), (self.y + top, self.height - top)]
        columns = [(self.x, left), (self.x + left, self.width - left)]
        return tuple(Rect(y, x, h, w) for y, h in rows for x, w in columns if h and w)


@dataclass(frozen=True)
class ExactTiles:
    """Tiles of networks of limited sight: a rectangle and a halo.

    A tile ends where the image does, up to a whole step, so that beyond the border networks see
    what they see in a pass over the whole image.

    Attributes
    ----------
    step
        Tiles begin at multiples of this (px).
    logits_halo, presence_halo
        How far the network sees, as in `Halo` (px).
    alike
        Whether all tiles of one block size have one shape, as a batch needs: those that would
        reach beyond the image are shifted inside then, not cut, which is more to compute.
    """

    step: int
    logits_halo: int
    presence_halo: int
    alike: bool = False

    def reads(self, shape: tuple[int, int], rect: Rect, margin: int, side: int) -> Rect:
        """Return the tile that gives `rect`, and the presence map `margin` px around it.

        Parameters
        ----------
        shape
            (H, W) of the image.
        rect
            A rectangle of up to `side` pixels.
        margin
            What the gate needs beyond the rectangle.
        side
            Side of a block, of whose grid the rectangle is; used only if tiles are `alike`.
        """
        reach = self.reach(margin)
        spans = []
        for start, count, size in zip(rect[:2], rect[2:], shape, strict=True):
            if self.alike:
                spans.append(self._shifted(start, side, size, reach))
            else:
                spans.append(self._cut(start, count, size, reach))
        (y, height), (x, width) = spans
        return Rect(y, x, height, width)

    def reach(self, margin: int) -> int:
        """Return how far beyond its block a tile reaches."""
        return _up(max(self.logits_halo, margin + self.presence_halo), self.step)

    def _cut(self, start: int, count: int, size: int, reach: int) -> tuple[int, int]:
        first = max(0, (start - reach) // self.step * self.step)
        return first, min(_up(size, self.step), _up(start + count + reach, self.step)) - first

    def _shifted(self, start: int, side: int, size: int, reach: int) -> tuple[int, int]:
        whole = _up(size, self.step)
        # A block that begins between two steps reaches up to a step further back.
        length = min(whole, _up(side + (self.step - 1 if side % self.step else 0), self.step))
        length = min(whole, length + 2 * reach)
        first = (start - reach) // self.step * self.step
        return max(0, min(first, whole - length)), length


@dataclass(frozen=True)
class BlendedTiles:
    """Tiles of networks that see everything: of one size, on a global grid, overlapping.

    Attributes
    ----------
    size, stride
        Side of a tile and distance between two (px).
    """

    size: int
    stride: int

    def reads(self, shape: tuple[int, int], rect: Rect, margin: int, side: int) -> Rect:
        """Return the rectangle of all tiles that touch `rect` and `margin` px around it."""
        y, height = self._span(rect.y - margin, rect.height + 2 * margin)
        x, width = self._span(rect.x - margin, rect.width + 2 * margin)
        return Rect(y, x, height, width)

    def _span(self, start: int, count: int) -> tuple[int, int]:
        first = (start - self.size) // self.stride + 1
        last = (start + count - 1) // self.stride
        return first * self.stride, (last - first) * self.stride + self.size

    def starts(self, length: int) -> range:
        """Return where tiles begin along an axis of a rectangle of `reads`."""
        return range(0, length - self.size + 1, self.stride)


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
