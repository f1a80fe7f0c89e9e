"""Patches that overlap narrow each other's labels down, and show where these are wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.jobs import Log
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.slides import glass_mask

__all__ = ["Overlaps", "overlaps_said"]

#: How names of patches that were cut from an image end.
_PLACE = re.compile(r"(?P<image>.*)_y(?P<y>\d+)_x(?P<x>\d+)$")
#: Pairs whose common pixels are compared, and the mean difference of their grey values (8 bit)
#: that compression may cause.
_PROBES, _TOLERANCE = 8, 4.0
#: Share of the pixels on which labels may contradict each other before they count as wrong. Right
#: ones do on 0.02 % (a class below the share that a label needs); with one entry in 200 turned
#: round it is 0.4 to 1 %, with one in 50 1.5 to 2 %.
_RIGHT = 0.003
#: Patches whose glass is looked for, of those that others contradict.
_LOOKED_AT = 256
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

    A class that is missing in a single label would so be ruled out of all its pixels: of labels
    of which 2 % are wrong, 5 % of the pixels lost theirs. Labels that lack a class contradict
    others, though, and leave pixels without any. Where they do, one patch is not believed: two
    that lack a class rule it out, or a quarter of those that hold the pixel if that is more, or
    all of them if they are fewer.

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
        return self._counted[0]

    @cached_property
    def contradicted(self) -> float:
        """Share of the common pixels, 0 to 1, for which labels leave no class; no glass."""
        shares, common = self._counted
        if not common:
            return 0.0
        return float(shares.sum()) / common * self._tissue_there(np.flatnonzero(shares))

    @cached_property
    def _counted(self) -> tuple[NDArray[np.float64], float]:
        """Return `shares`, and how much of all patches lies in others too, in patches."""
        shares, common = np.zeros(len(self.patches)), 0.0
        labelled: NDArray[np.bool_] = np.any(self.patches.labels, axis=1)
        for i in self._places if self.pairs else ():
            if labelled[i]:
                cells = self._cells(i)
                area = np.outer(cells.rows, cells.columns) / self._side**2
                shares[i] = area[np.all(cells.lacking > 0, axis=0)].sum()
                common += float(area[cells.holding > 1].sum())
        return shares, common

    def _tissue_there(self, contradicted: NDArray[np.intp]) -> float:
        """Return which share, 0 to 1, of what is contradicted in these patches is tissue.

        On glass that is no tissue no class is looked for, so two patches on either side of it
        may well have none in common.
        """
        if self.patches.glass != "ignore" or not len(contradicted):
            return 1.0
        chosen = np.linspace(0, len(contradicted) - 1, min(_LOOKED_AT, len(contradicted)))
        whole = tissue = 0
        for i in contradicted[chosen.astype(int)]:
            glass = glass_mask(self.patches.read(int(i)))
            if glass.shape == (self._side, self._side):
                cells = self._cells(int(i))
                where = cells.pixels(np.all(cells.lacking > 0, axis=0))
                whole += int(where.sum())
                tissue += int((where & ~glass).sum())
        return tissue / whole if whole else 1.0

    @property
    def wrong(self) -> bool:
        """Whether labels contradict each other more often than right ones do."""
        return self.contradicted > _RIGHT

    @property
    def doubtful(self) -> NDArray[np.intp]:
        """Indices of the patches to look at first, the most doubtful first, if labels are `wrong`.

        Those that others contradict on more than half their pixels, and on no less than any
        patch that overlaps them.
        """
        if not self.wrong:
            return np.zeros(0, np.intp)
        order = np.argsort(-self.shares, kind="stable")
        return np.array(
            [
                i
                for i in order[self.shares[order] > _DOUBTFUL]
                if self.shares[i] >= max((self.shares[j] for j in self._near(int(i))), default=0)
            ],
            np.intp,
        )

    def possible(self, i: int, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return (K, H, W): the classes of its label that each pixel of patch `i` may have.

        `size` is (H, W). Where none of them is left, which a few pixels of a class below the
        share that a label needs can bring about, all of them count.
        """
        own = self.patches.labels[i][:, None, None]
        cells = self._cells(i, size)
        left = self._left(cells) & own
        return cells.pixels(np.where(left.any(0), left, own))

    def known(self, i: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return (H, W): the class of pixels of patch `i` that can have one only, else 255.

        Where labels are `wrong` it may be none of the patch's own.
        """
        cells = self._cells(i, size)
        left = self._left(cells)
        left = np.where(left.any(0), left, self.patches.labels[i][:, None, None])
        classes = np.where(left.sum(0) == 1, left.argmax(0), IGNORE)
        return cells.pixels(classes.astype(np.uint8))

    def narrows(self, i: int) -> bool:
        """Whether other patches overlap patch `i`."""
        return self.pairs > 0 and any(True for _ in self._near(i))

    def _left(self, cells: _Cells) -> NDArray[np.bool_]:
        """Return (K, rows, columns): the classes that are not ruled out."""
        if not self.wrong:
            return cells.lacking == 0
        enough = np.maximum(2, -(-cells.holding // 4))
        return cells.lacking < np.minimum(enough, cells.holding)

    def _cells(self, i: int, size: tuple[int, int] | None = None) -> _Cells:
        """Divide patch `i` at the edges of the patches that overlap it, and count these.

        One of another `size` than the others is one part, of which they say nothing.
        """
        labels, square = self.patches.labels, (self._side, self._side)
        size = size or square
        near = self._near(i) if self.pairs and size == square else ()
        common = [(j, self._common(i, j)[0]) for j in near if labels[j].any()]
        edges = [
            np.unique([0, size[k], *(e for _, at in common for e in (at[k].start, at[k].stop))])
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
        if not one.shape[:2] == two.shape[:2] == (self._side, self._side):
            return False
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
        said.append(
            Log(
                "Labels of patches that overlap contradict each other on "
                f"{overlaps.contradicted:.1%} of what they have in common: some are wrong, or "
                "lack a class that covers little. No patch is believed alone; 'napari-wsss "
                "patches report' names those to look at.",
                "warning",
            )
        )
    return said
