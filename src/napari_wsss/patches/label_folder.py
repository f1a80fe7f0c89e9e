"""A folder of label files: one per slide and size of patches."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches.grid import PatchGrid
from napari_wsss.patches.label_file import LABELS_SUFFIX, LabelFile, label_files, read_header
from napari_wsss.patches.slide_labels import SlideLabels, SlideRecord

__all__ = ["Opened", "open_in_folder"]


class Opened(NamedTuple):
    """A file of labels that is open, and what is to be said about it.

    Attributes
    ----------
    file
        The file; close it.
    notes
        Sentences for the user: the slide moved, another one of its name was labelled, files
        in the folder that could not be read.
    """

    file: LabelFile
    notes: tuple[str, ...]


def open_in_folder(
    folder: str | Path, slide: SlideRecord, grid: PatchGrid, classes: ClassTable
) -> Opened:
    """Open the labels of a slide in a folder, or begin them.

    A slide is known by its content, so it may have been moved or renamed.

    Parameters
    ----------
    folder
        Where the files are; made if it is not there.
    slide, grid
        The slide and its patches; labels of patches of another size are another file.
    classes
        Classes of a new file, if it is the first; else it gets those of the file that was
        written last.

    Raises
    ------
    OutputError
        If the file is open elsewhere, or cannot be written.
    """
    folder = Path(folder)
    notes: list[str] = []
    newest = 0.0
    for path in label_files(folder):
        try:
            stored = read_header(path)
        except DataError as error:
            notes.append(f"Passed over: {error}")
            continue
        if slide.was(stored.slide.fingerprint) and _same(stored.grid, grid):
            if stored.slide.path != slide.path and stored.slide.path is not None:
                notes.append(f"The slide was at {stored.slide.path} when it was labelled.")
            return Opened(LabelFile.open(path, slide), tuple(notes))
        if (written := path.stat().st_mtime) > newest:
            newest, classes = written, stored.classes
        same_file = stored.slide.path is not None and stored.slide.path == slide.path
        if same_file and _same(stored.grid, grid):
            notes.append(
                f"{slide.name} has changed since it was labelled. The labels of how it was stay "
                f"in {path.name}; new ones are begun."
            )
    return Opened(
        LabelFile.create(_free_path(folder, slide, grid), SlideLabels(slide, grid, classes)),
        tuple(notes),
    )


def _same(one: PatchGrid, other: PatchGrid) -> bool:
    return (one.rows, one.columns, one.size_px, one.mpp) == (
        other.rows, other.columns, other.size_px, other.mpp,
    )  # fmt: skip


def _free_path(folder: Path, slide: SlideRecord, grid: PatchGrid) -> Path:
    stem = f"{slide.name} {grid.patch_um:g}um {grid.size_px}px"
    for number in range(1, 10_000):
        path = folder / f"{stem}{'' if number == 1 else f' ({number})'}{LABELS_SUFFIX}"
        if not path.exists():
            return path
    raise DataError(f"{folder} holds too many files of labels of {slide.name}.")
