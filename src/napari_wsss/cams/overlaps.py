"""Patches that overlap narrow each other's labels down."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.patches import PatchSet

__all__ = ["Overlaps"]

#: How names of patches that were cut from an image end.
_PLACE = re.compile(r"(?P<image>.*)_y(?P<y>\d+)_x(?P<x>\d+)$")
#: Pairs whose common pixels are compared, and the mean difference of their grey values (8 bit)
#: that compression may cause.
_PROBES, _TOLERANCE = 8, 4.0


class Overlaps:
    """Where the patches of a set lie beside each other.

    A pixel that lies in two patches has a class of both their labels. Cut with half their side
    as step, most pixels lie in four.

    Parameters
    ----------
    patches
        The set. Places are read from names that end in ``_y00056_x00112``, as `cut_patches`
        writes them.

    Attributes
    ----------
    pairs : int
        Number of pairs that overlap; 0 if the names say nothing of places, or if pixels that
        should be common to two patches are not (names of another meaning).
    """

    def __init__(self, patches: PatchSet):
        self._patches = patches
        self._side = _common_side(patches)
        self._places: dict[int, tuple[str, int, int]] = {}
        self._grid: dict[tuple[str, int, int], list[int]] = {}
        for i, name in enumerate(patches.names if self._side else ()):
            place = _PLACE.match(name)
            if place is not None:
                y, x = int(place["y"]), int(place["x"])
                self._places[i] = (place["image"], y, x)
                cell = (place["image"], y // self._side, x // self._side)
                self._grid.setdefault(cell, []).append(i)
        found = [(i, j) for i in self._places for j in self._near(i) if i < j]
        self.pairs = len(found)
        step = max(1, len(found) // _PROBES)
        if not all(self._same(i, j) for i, j in found[::step][:_PROBES]):
            self.pairs = 0

    def possible(self, i: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return (K, H, W): the classes that each pixel of patch `i`, of (H, W) px, may have.

        Where labels contradict each other, which a few pixels of a class below the share that
        a label needs can bring about, the patch's own label counts.
        """
        own = self._patches.labels[i][:, None, None]
        possible = np.broadcast_to(own, (len(own), *size)).copy()
        if self.pairs and size == (self._side, self._side):
            for j in self._near(i):
                here, _ = self._common(i, j)
                possible[:, here[0], here[1]] &= self._patches.labels[j][:, None, None]
        return np.where(possible.any(0), possible, own)

    def known(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return (H, W): the class of pixels of patch `i` that can have one only, else 255."""
        possible = self.possible(i, size)
        return np.where(possible.sum(0) == 1, possible.argmax(0), IGNORE).astype(np.uint8)

    def narrows(self, i: int) -> bool:
        """Whether other patches overlap patch `i`."""
        return self.pairs > 0 and any(True for _ in self._near(i))

    def _near(self, i: int) -> Iterator[int]:
        """Yield the other patches of the same image that overlap patch `i`."""
        if i not in self._places:
            return
        image, y, x = self._places[i]
        row, column = y // self._side, x // self._side
        for cell in ((image, row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)):
            for j in self._grid.get(cell, ()):
                _, v, u = self._places[j]
                if j != i and abs(v - y) < self._side and abs(u - x) < self._side:
                    yield j

    def _common(self, i: int, j: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Return the rows and columns that patches `i` and `j` share, in each of them."""
        (_, y, x), (_, v, u) = self._places[i], self._places[j]

        def part(shift: int) -> slice:
            return slice(max(0, shift), self._side + min(0, shift))

        return (part(v - y), part(u - x)), (part(y - v), part(x - u))

    def _same(self, i: int, j: int) -> bool:
        here, there = self._common(i, j)
        one, two = (self._patches.read(n).astype(float) for n in (i, j))
        return bool(np.abs(one[here] - two[there]).mean() <= _TOLERANCE)


def _common_side(patches: PatchSet) -> int:
    """Return the side of square patches of one size, judged by a few; 0 if there is none."""
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(_PROBES, len(patches))).astype(int))
    sizes = {patches.read(int(i)).shape[:2] for i in chosen}
    ((height, width),) = sizes if len(sizes) == 1 else {(0, 1)}
    return height if height == width else 0
