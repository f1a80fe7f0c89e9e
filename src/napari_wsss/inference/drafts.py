"""Painted corrections that were not written back yet, kept beside the result they belong to."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.files import write_atomic
from napari_wsss.inference.tiles import Rect

__all__ = ["DRAFTS", "Draft", "delete_draft", "draft_places", "read_draft", "save_draft"]

#: Folder in a result; it is no part of the result.
DRAFTS = ".drafts"


@dataclass(frozen=True, eq=False)
class Draft:
    """What was painted in a region.

    Attributes
    ----------
    place
        The region.
    painted
        (h, w) bool: the pixels that were changed.
    labels
        (h, w) uint8: what they were changed to; anything elsewhere.
    """

    place: Rect
    painted: NDArray[np.bool_]
    labels: NDArray[np.uint8]

    def on(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return labels (h, w) of the region as stored now, with what was painted on top."""
        return np.where(self.painted, self.labels, labels)


def save_draft(path: Path, draft: Draft) -> None:
    """Keep `draft` in the result at `path`, all or nothing, in place of an earlier one.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows, columns = (np.flatnonzero(draft.painted.any(axis)) for axis in (1, 0))
    box = np.s_[0:0, 0:0]
    if len(rows):
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        at=np.array([box[0].start, box[1].start]),
        painted=draft.painted[box],
        labels=draft.labels[box],
    )
    write_atomic(_file(path, draft.place), buffer.getvalue())


def read_draft(path: Path, place: Rect) -> Draft | None:
    """Return the draft of a region of the result at `path`, None if there is none.

    Raises
    ------
    SlideError
        If it is damaged.
    """
    file = _file(path, place)
    try:
        with np.load(file, allow_pickle=False) as stored:
            (y, x), part, values = stored["at"].tolist(), stored["painted"], stored["labels"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise SlideError(f"{file} cannot be read ({error}). Delete it.") from error
    painted = np.zeros((place.height, place.width), bool)
    labels = np.zeros(painted.shape, np.uint8)
    box = np.s_[y : y + part.shape[0], x : x + part.shape[1]]
    if part.shape != values.shape or painted[box].shape != part.shape:
        raise SlideError(f"{file} does not fit its region. Delete it.")
    painted[box], labels[box] = part, values
    return Draft(place, painted, labels)


def draft_places(path: Path) -> list[Rect]:
    """Return the regions of the result at `path` that have drafts, the latest first."""
    found = []
    for file in (path / DRAFTS).glob("*.npz"):
        numbers = file.stem.split("-")
        if len(numbers) == 4 and all(n.isdecimal() for n in numbers):
            found.append((file.stat().st_mtime_ns, Rect(*map(int, numbers))))
    return [place for _, place in sorted(found, reverse=True)]


def delete_draft(path: Path, place: Rect) -> None:
    """Delete the draft of a region, if there is one and it can be."""
    try:
        _file(path, place).unlink(missing_ok=True)
    except OSError:
        return  # read-only by now: it is offered again, and written back again changes nothing


def _file(path: Path, place: Rect) -> Path:
    return path / DRAFTS / ("-".join(map(str, place)) + ".npz")
