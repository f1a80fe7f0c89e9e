"""Network output for a part of an image, enlarged only where and when it is looked at."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch.nn.functional as F
from torch import Tensor

from napari_wsss.inference.tiles import Rect

__all__ = ["Region"]

#: Numbers in a strip of enlarged logits: they stay in a processor's caches, and the calls for
#: each strip take little time beside the work.
_STRIP = 2**20


@dataclass(frozen=True)
class Region:
    """Network output for a rectangle of the image, on the device.

    Attributes
    ----------
    rect
        The rectangle; it begins at multiples of the network's alignment, and may end beyond
        the image.
    logits
        (K, h, w): of a map of the rectangle, mostly coarser than the image, the part that was
        computed. Within the halo it is not that of the whole image.
    presence
        (K, ph, pw) map of the gate, covering the same rectangle.
    origin
        (y, x) of the part's first pixel in the map.
    size
        (H, W) of the map; by default the part is all of it.
    temperature
        Logits are divided by it before they become probabilities.
    """

    rect: Rect
    logits: Tensor
    presence: Tensor
    origin: tuple[int, int] = (0, 0)
    size: tuple[int, int] | None = None
    temperature: float = 1.0

    def crop(self, rect: Rect) -> Tensor:
        """Return the logits (K, height, width) of a rectangle inside, at the image's size.

        They are those of the whole map enlarged (bilinear): cutting first changes nothing.
        """
        size = self.size or (self.logits.shape[1], self.logits.shape[2])
        rows = _Span.of(size[0], self.rect.height, rect.y - self.rect.y, rect.height)
        columns = _Span.of(size[1], self.rect.width, rect.x - self.rect.x, rect.width)
        y, x = self.origin
        part = self.logits[
            :, max(0, rows.low - y) : rows.high - y, max(0, columns.low - x) : columns.high - x
        ]
        if rows.whole != part.shape[1] or columns.whole != part.shape[2]:
            part = F.interpolate(
                part[None], (rows.whole, columns.whole), mode="bilinear", align_corners=False
            )[0]
        return part[
            :, rows.skip : rows.skip + rect.height, columns.skip : columns.skip + rect.width
        ]

    def strips(self, rect: Rect) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of a rectangle in parts, as (rows of it, logits (K, rows, width)).

        On a CPU the parts stay in its caches: what is done pixel by pixel in several steps
        would wait for memory at each of them. Other devices get all at once.
        """
        step = rect.height
        if self.logits.device.type == "cpu":
            step = max(8, _STRIP // (len(self.logits) * rect.width))
        for top in range(0, rect.height, step):
            count = min(step, rect.height - top)
            part = Rect(rect.y + top, rect.x, count, rect.width)
            yield slice(top, top + count), self.crop(part)


@dataclass(frozen=True)
class _Span:
    """Along one axis: a part of a map, and where the wanted pixels are once it is enlarged.

    Attributes
    ----------
    low, high
        First and last (excluded) pixel of the map.
    whole
        Pixels of the image that they cover.
    skip
        How many of these come before the wanted ones.
    """

    low: int
    high: int
    whole: int
    skip: int

    @classmethod
    def of(cls, size: int, pixels: int, start: int, count: int) -> _Span:
        """Return the span for `count` pixels from `start`, of `pixels` that a map has."""
        if size == pixels:
            return cls(start, start + count, count, 0)
        scale = Fraction(size, pixels)  # pixels of the map per pixel of the image
        per, period = scale.numerator, scale.denominator
        first = math.floor((start + Fraction(1, 2)) * scale - Fraction(1, 2))
        last = math.ceil((start + count - Fraction(1, 2)) * scale - Fraction(1, 2))
        # Whole periods, so that pixels of both lie as in the whole.
        low = max(0, first) // per * per
        high = min(size, -(-(last + 1) // per) * per)
        begin = low // per * period
        return cls(low, high, (high - low) // per * period, start - begin)
