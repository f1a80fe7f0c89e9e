"""Labelling one slide: where one is, where one goes next, and what is left to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.jobs import CancelToken, Job, Log
from napari_wsss.patches import LabelFile, PatchGrid, SlideRecord
from napari_wsss.patches.features import PatchFeatures
from napari_wsss.patches.grid import MIN_TISSUE
from napari_wsss.patches.slide_labels import patches_per_minute
from napari_wsss.patches.suggest import random_order
from napari_wsss.slides import Slide, tissue_mask

__all__ = ["LabelSession", "Prepared", "prepare_job"]


@dataclass(frozen=True)
class Prepared:
    """A slide with a grid of patches.

    Attributes
    ----------
    slide, record, grid
        The slide, what is remembered of it, and its patches.
    offered
        (rows * columns,) bool: patches with enough tissue to be labelled.
    """

    slide: Slide
    record: SlideRecord
    grid: PatchGrid
    offered: NDArray[np.bool_]


def prepare_job(
    slide: Slide, patch_um: float, mpp: float, cancel: CancelToken | None = None
) -> Job[Prepared]:
    """Lay a grid over a slide and find the patches with tissue, as a job.

    Raises
    ------
    DataError
        If no patch fits.
    SlideError
        If the µm/px are unknown, or the slide cannot be read.
    """
    cancel = cancel or CancelToken()
    grid = PatchGrid.over(slide, patch_um, mpp)
    yield Log("Looking for tissue")
    share = grid.tissue_share(tissue_mask(slide)).reshape(-1)
    cancel.raise_if_cancelled()
    offered = share >= MIN_TISSUE
    return Prepared(slide, SlideRecord.of(slide), grid, offered if offered.any() else share >= 0)


class LabelSession:
    """A slide that is being labelled.

    Parameters
    ----------
    prepared
        The slide.
    file
        Its labels.

    Attributes
    ----------
    slide, file, labels, grid, offered
        Of `prepared` and `file`.
    current
        The cell that keys label.
    suggested
        Cells to label next, the most useful first; those that were labelled meanwhile are
        passed over.
    features
        What networks made of its patches; None before the first time.
    """

    def __init__(self, prepared: Prepared, file: LabelFile) -> None:
        self.slide, self.grid, self.offered = prepared.slide, prepared.grid, prepared.offered
        self.file, self.labels = file, file.labels
        self.suggested: list[int] = []
        self.features: PatchFeatures | None = None
        self._began = time.time()
        self._seed = 0
        first = self.next()
        self.current = int(np.flatnonzero(self.offered)[0]) if first is None else first

    @property
    def open_cells(self) -> NDArray[np.int64]:
        """Cells with tissue that were not decided on, in ascending order."""
        return np.flatnonzero(self.offered & (self.labels.codes == 0))

    def next(self) -> int | None:
        """Return the cell to label next: a suggested one, else one at random; None if all are."""
        while self.suggested:
            cell = self.suggested.pop(0)
            if self.labels.codes[cell] == 0:
                return cell
        left = self.open_cells
        if not len(left):
            return None
        self._seed += 1
        return int(random_order(left, self._seed)[0])

    def neighbour(self, rows: int, columns: int) -> int:
        """Return the cell so many rows down and columns to the right; the border stops it."""
        row, column = divmod(self.current, self.grid.columns)
        row = min(max(row + rows, 0), self.grid.rows - 1)
        column = min(max(column + columns, 0), self.grid.columns - 1)
        return row * self.grid.columns + column

    def cell(self, row: float, column: float) -> int | None:
        """Return the cell at a place in rows and columns, None beside the grid."""
        step_y, step_x = self.grid.step_px
        return self.grid.cell_at(row * step_y, column * step_x)

    def cells_between(
        self, start: tuple[float, float], end: tuple[float, float]
    ) -> NDArray[np.int64]:
        """Return the cells with tissue under a straight line, in ascending order."""
        span = max(abs(end[0] - start[0]), abs(end[1] - start[1]))
        along: Sequence[float] = np.linspace(0, 1, 2 + int(span * 4)).tolist()
        found = {
            self.cell(start[0] + t * (end[0] - start[0]), start[1] + t * (end[1] - start[1]))
            for t in along
        }
        return np.array(sorted(c for c in found if c is not None and self.offered[c]), np.int64)

    def progress_text(self) -> str:
        """Return how far it is, and how fast it goes."""
        decided = self.labels.decided
        out = len(decided) - len(self.labels.labelled)
        text = f"{len(self.labels.labelled)} of {int(self.offered.sum())} labelled"
        if out:
            text += f", {out} left out"
        times = self.labels.times
        pace = patches_per_minute(times[times >= self._began])
        return text if pace is None else f"{text} · {pace:.0f} per minute"

    def close(self) -> None:
        """Tidy the file of labels up; OutputError if changes could not be stored."""
        self.file.close()
