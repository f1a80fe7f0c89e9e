"""The three jobs of labelling: laying the grid, looking for the next patches, the data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from napari_wsss.errors import DataError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.label_session import LabelSession
from napari_wsss.patches import PatchSet, label_files, on_slide_job, suggest_job
from napari_wsss.patches.features import PatchFeatures
from napari_wsss.patches.label_file import read_header
from napari_wsss.patches.patch_set import Glass
from napari_wsss.patches.suggest import Suggestions
from napari_wsss.slides import Slide

__all__ = ["data_set_job", "free_folder", "suggestions_job"]

Make = Callable[[CancelToken], Job[Suggestions]]


def suggestions_job(
    session: LabelSession,
    how: Literal["uncertain", "different"],
    classifier: Path | None,
    device: str,
) -> Make:
    """Return what a runner calls to look for the next patches of a session.

    What the thread needs is read from the session now, since labelling goes on meanwhile.
    """
    slide, labels, cells = session.slide, session.labels, session.open_cells
    known: PatchFeatures | None = session.features

    def make(cancel: CancelToken) -> Job[Suggestions]:
        return suggest_job(
            slide,
            labels,
            cells,
            how,
            classifier=classifier,
            known=known,
            device=device,
            cancel=cancel,
        )

    return make


def data_set_job(
    session: LabelSession,
    opened: Sequence[Slide],
    out: Path,
    glass: Glass,
    cancel: CancelToken,
) -> Job[PatchSet]:
    """Write all slides labelled beside this one, with patches as large, as a patch set.

    Slides are opened from their files; `opened` are those that are in none.
    """
    grid = session.grid
    files = []
    for path in label_files(session.file.path.parent):
        try:
            own = read_header(path).grid
        except DataError:
            continue  # said when the folder was opened
        if (own.size_px, own.mpp) == (grid.size_px, grid.mpp) and _has_labels(path):
            files.append(path)
    return on_slide_job(
        files or [session.file.path],
        out,
        slides=opened,
        glass=glass,
        cancel=cancel,
    )


def free_folder(folder: Path, name: str) -> Path:
    """Return ``folder/name``, numbered if that is taken."""
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name} {number}"
    return path


def _has_labels(path: Path) -> bool:
    """Whether more stands in a file of labels than its header."""
    with path.open(encoding="utf-8") as file:
        file.readline()
        return bool(file.readline())
