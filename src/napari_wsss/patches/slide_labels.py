"""The labels that a person gives to the patches of a slide, with undo and redo."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassInfo, ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches.cut_checks import check_class_names
from napari_wsss.patches.grid import PatchGrid
from napari_wsss.slides import Slide
from napari_wsss.slides.fingerprint import is_same_file

__all__ = [
    "LEFT_OUT",
    "MOST_CLASSES",
    "SlideLabels",
    "SlideRecord",
    "patches_per_minute",
    "without_values",
]

#: Code of a patch that was looked at and shall not be used (glass, blur, folds).
LEFT_OUT = 1 << 31
#: Classes that fit a code beside `LEFT_OUT`.
MOST_CLASSES = 31
#: Pauses longer than this do not count as time spent labelling (s).
_PAUSE_S = 30.0
#: Seconds of work after which it is said how fast that goes.
_ENOUGH_S = 5.0

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class SlideRecord:
    """What is remembered of a slide, to find it again and to notice that it changed.

    Attributes
    ----------
    name, path
        As in `Slide`; the path is None for images that are in no file.
    fingerprint
        As in `Slide`.
    shape
        (H, W) of level 0.
    mpp
        µm/px of level 0.
    """

    name: str
    path: Path | None
    fingerprint: str
    shape: tuple[int, int]
    mpp: float

    @classmethod
    def of(cls, slide: Slide) -> SlideRecord:
        """Describe a slide; MissingResolutionError if its µm/px are unknown."""
        path = None if slide.path is None else slide.path.absolute()
        return cls(slide.name, path, slide.fingerprint, slide.shape, slide.require_mpp())

    def was(self, fingerprint: str) -> bool:
        """Whether a stored fingerprint is of this slide, see `Slide.was`."""
        return is_same_file(fingerprint, self.fingerprint, self.path)


class _Change(NamedTuple):
    """Cells with codes and times before and after."""

    cells: Cells
    old: NDArray[np.uint32]
    new: NDArray[np.uint32]
    old_times: NDArray[np.float64]
    new_times: NDArray[np.float64]


class SlideLabels:
    """Which classes occur in which patch of a slide, as far as it was said.

    The state of a patch is a *code*: 0 is unlabelled, bit k is set for class k, and
    `LEFT_OUT` alone says that the patch shall not be used.

    Parameters
    ----------
    slide, grid
        The slide and its patches.
    classes
        2 to 31 classes.
    keep
        Called after every change, with the cells that changed or, if the classes did, None;
        it stores them.
    """

    def __init__(
        self,
        slide: SlideRecord,
        grid: PatchGrid,
        classes: ClassTable,
        keep: Callable[[Cells | None], None] | None = None,
    ) -> None:
        _check_classes(classes)
        self.slide, self.grid = slide, grid
        self.keep = keep
        self._classes = classes
        self._codes = np.zeros(len(grid), np.uint32)
        self._times = np.zeros(len(grid))
        self._done: list[list[_Change]] = []
        self._undone: list[list[_Change]] = []

    # -- what is known ------------------------------------------------------------------

    @property
    def codes(self) -> NDArray[np.uint32]:
        """(rows * columns,) state of every patch; read-only."""
        view = self._codes.view()
        view.setflags(write=False)
        return view

    @property
    def times(self) -> NDArray[np.float64]:
        """(rows * columns,) when each got its label, in s since 1970, 0 if never; read-only."""
        view = self._times.view()
        view.setflags(write=False)
        return view

    @property
    def classes(self) -> ClassTable:
        """The class table."""
        return self._classes

    @property
    def decided(self) -> Cells:
        """Cells with a label and cells left out, in ascending order."""
        return np.flatnonzero(self._codes)

    @property
    def labelled(self) -> Cells:
        """Cells with at least one class, in ascending order."""
        return np.flatnonzero(self._codes & (LEFT_OUT - 1))

    def labels_of(self, cells: Sequence[int] | Cells) -> NDArray[np.bool_]:
        """Return (n, K) bool: the classes of `cells`."""
        codes = self._codes[np.asarray(cells, np.int64)]
        return (codes[:, None] >> np.arange(len(self.classes), dtype=np.uint32) & 1).astype(bool)

    def counts(self) -> NDArray[np.int64]:
        """Return (K,) how many patches show each class."""
        return self.labels_of(self.labelled).sum(0)

    # -- labelling ----------------------------------------------------------------------

    def assign(self, cells: Sequence[int] | Cells, code: int, *, join: bool = False) -> Cells:
        """Give patches a code, and keep it.

        Parameters
        ----------
        cells
            Which patches.
        code
            Sum of ``1 << k`` over their classes, `LEFT_OUT`, or 0 to unlabel them.
        join
            Undo this together with the change before, as the parts of one brush stroke.

        Returns
        -------
        NDArray
            The cells whose code is another one now.

        Raises
        ------
        OutputError
            If it could not be stored; the labels in memory have changed then.
        """
        if code != LEFT_OUT and not 0 <= code < 1 << len(self.classes):
            raise DataError(f"The code {code} is none of these {len(self.classes)} classes.")
        each = np.unique(np.asarray(cells, np.int64))
        each = each[self._codes[each] != code]
        return self._change(each, np.full(len(each), code, np.uint32), join)

    def toggle(self, cell: int, index: int) -> Cells:
        """Add class `index` to a patch, or take it away; see `assign`."""
        if not 0 <= index < len(self.classes):
            raise DataError(f"There is no class number {index}.")
        code = int(self._codes[cell])
        return self.assign([cell], (code & (LEFT_OUT - 1)) ^ (1 << index))

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone change."""
        return bool(self._undone)

    def undo(self) -> Cells:
        """Take the last change back; returns the cells that changed, in order."""
        if not self._done:
            return np.empty(0, np.int64)
        step = self._done.pop()
        self._undone.append(step)
        for change in reversed(step):
            self._codes[change.cells] = change.old
            self._times[change.cells] = change.old_times
        return self._kept(step)

    def redo(self) -> Cells:
        """Make the change again that was undone last; returns the cells that changed."""
        if not self._undone:
            return np.empty(0, np.int64)
        step = self._undone.pop()
        self._done.append(step)
        for change in step:
            self._codes[change.cells] = change.new
            self._times[change.cells] = change.new_times
        return self._kept(step)

    def restore(self, cells: Cells, codes: NDArray[np.uint32], times: NDArray[np.float64]) -> None:
        """Set what was stored before: nothing to undo, nothing to keep."""
        self._codes[cells] = codes
        self._times[cells] = times

    # -- classes ------------------------------------------------------------------------

    def add_class(self, name: str) -> None:
        """Add a class in the next colour of the palette; DataError if it cannot be."""
        colors = [c.color for c in self.classes.classes]
        count = len(colors) + 1
        fresh = [
            c.color
            for c in ClassTable.from_names([str(i) for i in range(2 * count)]).classes
            if c.color not in colors
        ]
        names = [*self.classes.names, name]
        self.set_classes(ClassTable.from_names(names, colors=[*colors, fresh[0]]))

    def set_classes(self, classes: ClassTable) -> None:
        """Rename or recolour the classes, or add some at the end; labels stay.

        Raises
        ------
        DataError
            If the table is not usable or has fewer classes.
        """
        _check_classes(classes)
        if len(classes) < len(self.classes):
            raise DataError("Classes are removed one by one, with remove_class.")
        self._classes = classes
        self._keep(None)

    def rename_class(self, index: int, name: str) -> None:
        """Give class `index` another name; DataError if it cannot have that."""
        self._set_info(replace(self.classes.classes[index], name=name), index)

    def recolor_class(self, index: int, color: str) -> None:
        """Give class `index` another colour, ``"#rrggbb"``."""
        self._set_info(replace(self.classes.classes[index], color=color), index)

    def _set_info(self, info: ClassInfo, index: int) -> None:
        infos = list(self.classes.classes)
        infos[index] = info
        self.set_classes(replace(self.classes, classes=tuple(infos)))

    def remove_class(self, index: int) -> None:
        """Remove a class that no patch has; what was done before cannot be undone then.

        Raises
        ------
        DataError
            If a patch has it, or fewer than two classes would be left.
        """
        info = self.classes.classes[index]
        if n := int(self.counts()[index]):
            raise DataError(
                f"{n} {'patch is' if n == 1 else 'patches are'} labelled {info.name!r}. Take that "
                "label away first."
            )
        if len(self.classes) <= 2:
            raise DataError("At least two classes are needed. Rename this one instead.")
        rest = tuple(c for c in self.classes.classes if c is not info)
        below = np.uint32((1 << index) - 1)
        classes = self._codes & np.uint32(LEFT_OUT - 1)
        moved = (classes & below) | (classes >> np.uint32(1) & ~below)
        self._codes[:] = moved | (self._codes & np.uint32(LEFT_OUT))
        self._classes = replace(self.classes, classes=rest)
        self._done.clear()
        self._undone.clear()
        self._keep(None)

    # -- keeping ------------------------------------------------------------------------

    def _change(self, cells: Cells, codes: NDArray[np.uint32], join: bool) -> Cells:
        if not len(cells):
            return cells
        times = np.where(codes > 0, time.time(), 0.0)
        change = _Change(cells, self._codes[cells], codes, self._times[cells], times)
        if join and self._done:
            self._done[-1].append(change)
        else:
            self._done.append([change])
        self._undone.clear()
        self._codes[cells] = codes
        self._times[cells] = times
        self._keep(cells)
        return cells

    def _kept(self, step: list[_Change]) -> Cells:
        cells = np.unique(np.concatenate([change.cells for change in step]))
        self._keep(cells)
        return cells

    def _keep(self, cells: Cells | None) -> None:
        if self.keep is not None:
            self.keep(cells)


def patches_per_minute(times: NDArray[np.float64]) -> float | None:
    """Return how fast patches were labelled; longer pauses do not count.

    Parameters
    ----------
    times
        When patches got their labels (s), in any order.

    Returns
    -------
    float or None
        None before there are `_ENOUGH_S` seconds of work, from which nothing follows.
    """
    gaps = np.diff(np.sort(times))
    gaps = gaps[gaps <= _PAUSE_S]
    spent = float(gaps.sum())
    return 60 * len(gaps) / spent if spent >= _ENOUGH_S else None


def without_values(classes: ClassTable) -> ClassTable:
    """Return the same names and colours, for labels that have no masks."""
    return ClassTable(tuple(replace(info, value=None) for info in classes.classes))


def _check_classes(classes: ClassTable) -> None:
    if len(classes) > MOST_CLASSES:
        raise DataError(f"{len(classes)} classes; labelling on a slide takes {MOST_CLASSES}.")
    check_class_names(classes)
