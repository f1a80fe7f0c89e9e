"""Patches that overlap narrow each other's labels down, and show which of them are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.jobs import Log
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["Overlaps", "overlaps_said"]

#: How names of patches that were cut from an image end.
_PLACE = re.compile(r"(?P<image>.*)_y(?P<y>\d+)_x(?P<x>\d+)$")
#: Pairs whose common pixels are compared, and the mean difference of their grey values (8 bit)
#: that compression may cause.
_PROBES, _TOLERANCE = 8, 4.0
#: Share of the pixels on which labels may contradict each other before they count as wrong.
#: Labels that were read from masks do on 0.02 % at most (a class below the share that a label
#: needs); with one in 200 turned round it is 0.5 %, with one in 50 it is 2 %.
_RIGHT = 0.003
#: Share of a patch's pixels beyond which it is named if others contradict it there.
_DOUBTFUL = 0.5


class _Cells(NamedTuple):
    """Parts of a patch that lie in the same patches.

    Attributes
    ----------
    rows, columns
        Their heights and widths, pixels.
    lacking
        (K, rows, columns): how many of the patches that hold a part lack the class.
    holding
        (rows, columns): how many patches hold a part.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    lacking: NDArray[np.intp]
    holding: NDArray[np.intp]

    def pixels(self, parts: NDArray) -> NDArray:
        """Return (..., H, W) of what is given for every part, (..., rows, columns)."""
        return parts.repeat(self.rows, axis=-2).repeat(self.columns, axis=-1)


class Overlaps:
    """Where the patches of a set lie beside each other.

    A pixel that lies in two patches has a class of both their labels. Cut with half their side
    as step, most pixels lie in four.

    A single wrong label would so rule the right class out of all pixels around it: of labels
    of which 2 % are wrong, 5 % of the pixels lost theirs. Wrong labels contradict each other,
    though. Where they do, one patch is not believed: two that lack a class rule it out, or
    the only one that holds a pixel.

    Parameters
    ----------
    patches
        The set. Places are read from names that end in ``_y00056_x00112``, as `cut_patches`
        writes them. Patches without a label say nothing.

    Attributes
    ----------
    patches : PatchSet
        The set.
    pairs : int
        Number of pairs that overlap; 0 if the names say nothing of places, or if pixels that
        should be common to two patches are not (names of another meaning).
    """

    def __init__(self, patches: PatchSet):
        self.patches = patches
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

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """(N,): share of the pixels of each patch, 0 to 1, to which labels leave no class."""
        found = np.zeros(len(self.patches))
        labelled: NDArray[np.bool_] = np.any(self.patches.labels, axis=1)
        for i in self._places if self.pairs else ():
            if labelled[i]:
                cells = self._cells(i)
                nothing_left = np.all(cells.lacking > 0, axis=0).astype(float)
                found[i] = cells.rows @ nothing_left @ cells.columns / self._side**2
        return found

    @cached_property
    def contradicted(self) -> float:
        """Share of the pixels, 0 to 1, for which overlapping labels leave no class."""
        placed = list(self._places)
        return float(self.shares[placed].mean()) if placed else 0.0

    @property
    def wrong(self) -> bool:
        """Whether labels contradict each other more often than right ones do."""
        return self.contradicted > _RIGHT

    @property
    def doubtful(self) -> NDArray[np.intp]:
        """Indices of the patches to look at first, the most doubtful first, if labels are `wrong`.

        Those that other patches contradict on more than half their pixels, which one wrong
        label beside them does not, and those whose `labels` are not their own.
        """
        if not self.wrong:
            return np.zeros(0, np.intp)
        shares = np.where((self.labels != self.patches.labels).any(1), 1.0, self.shares)
        order = np.argsort(-shares, kind="stable")
        return order[shares[order] > _DOUBTFUL]

    @cached_property
    def labels(self) -> NDArray[np.bool_]:
        """(N, K): the patches' labels, without classes that are ruled out everywhere in them.

        The labels as they are unless some are `wrong`. A patch of which no class would be left
        has those that the patches around it leave, or its own.
        """
        labels = self.patches.labels
        if not self.wrong:
            return labels
        found = labels.copy()
        for i in self._places:
            left = self._left(self._cells(i)).any((1, 2))
            if left.any() and labels[i].any():
                found[i] = labels[i] & left if (labels[i] & left).any() else left
        return found

    def corrected(self) -> PatchSet:
        """Return the set with `labels`; the set itself if they are those that it has."""
        same = np.array_equal(self.labels, self.patches.labels)
        return self.patches if same else replace(self.patches, labels=self.labels)

    def possible(self, i: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return (K, H, W): which of its `labels` each pixel of patch `i`, of (H, W) px, may have.

        Where none of them is left, which a few pixels of a class below the share that a label
        needs can bring about, all of them count.
        """
        own = self.labels[i][:, None, None]
        if not self._applies(i, size):
            return np.broadcast_to(own, (len(own), *size)).copy()
        cells = self._cells(i)
        left = self._left(cells) & own
        return cells.pixels(np.where(left.any(0), left, own))

    def known(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return (H, W): the class of pixels of patch `i` that can have one only, else 255.

        Where labels are `wrong` it may be none of the patch's `labels`.
        """
        possible = self.possible(i, size)
        if self._applies(i, size) and self.wrong:
            cells = self._cells(i)
            left = cells.pixels(self._left(cells))
            possible = np.where(left.any(0), left, possible)
        return np.where(possible.sum(0) == 1, possible.argmax(0), IGNORE).astype(np.uint8)

    def narrows(self, i: int) -> bool:
        """Whether other patches overlap patch `i`."""
        return self.pairs > 0 and any(True for _ in self._near(i))

    def _applies(self, i: int, size: tuple[int, int]) -> bool:
        """Whether the place of patch `i` says anything of its pixels."""
        return self.pairs > 0 and i in self._places and size == (self._side, self._side)

    def _left(self, cells: _Cells) -> NDArray[np.bool_]:
        """Return (K, rows, columns): the classes that are not ruled out."""
        if not self.wrong:
            return cells.lacking == 0
        return cells.lacking < np.minimum(2, cells.holding)

    def _cells(self, i: int) -> _Cells:
        """Divide patch `i` at the edges of the patches that overlap it, and count these."""
        labels = self.patches.labels
        common = [(j, self._common(i, j)[0]) for j in self._near(i) if labels[j].any()]
        edges = [
            np.unique([0, self._side, *(e for _, at in common for e in (at[k].start, at[k].stop))])
            for k in (0, 1)
        ]
        holding = np.ones([len(e) - 1 for e in edges], np.intp)
        lacking = np.where(labels[i], 0, 1)[:, None, None] * holding
        for j, at in common:
            first, last = (
                [int(np.searchsorted(e, value)) for e, value in zip(edges, ends, strict=True)]
                for ends in zip(*((s.start, s.stop) for s in at), strict=True)
            )
            part = (slice(first[0], last[0]), slice(first[1], last[1]))
            holding[part] += 1
            lacking[:, part[0], part[1]] += ~labels[j][:, None, None]
        return _Cells(np.diff(edges[0]), np.diff(edges[1]), lacking, holding)

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
        one, two = (self.patches.read(n).astype(float) for n in (i, j))
        return bool(np.abs(one[here] - two[there]).mean() <= _TOLERANCE)


def _common_side(patches: PatchSet) -> int:
    """Return the side of square patches of one size, judged by a few; 0 if there is none."""
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(_PROBES, len(patches))).astype(int))
    sizes = {patches.read(int(i)).shape[:2] for i in chosen}
    ((height, width),) = sizes if len(sizes) == 1 else {(0, 1)}
    return height if height == width else 0


def overlaps_said(overlaps: Overlaps) -> list[Log]:
    """Return what is said of the overlaps of a set that is learnt from."""
    if not overlaps.pairs:
        return [Log("No patches overlap, as far as their names say; each has its own label only")]
    said = [Log(f"{overlaps.pairs} pairs of patches overlap and narrow each other's labels down")]
    if overlaps.wrong:
        changed = int((overlaps.labels != overlaps.patches.labels).any(1).sum())
        said.append(
            Log(
                f"Labels of patches that overlap contradict each other on "
                f"{overlaps.contradicted:.1%} of their pixels, so some are wrong. No patch is "
                f"believed alone; {changed} patches are learnt with another label. 'napari-wsss "
                "patches report' lists those.",
                "warning",
            )
        )
    return said
