"""Which values a folder of masks holds: a class table to begin with."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.patches.formats.common import image_files
from napari_wsss.patches.images import read_mask_values

__all__ = ["classes_of_values", "mask_values_job"]


def mask_values_job(
    folder: str | Path, *, cancel: CancelToken | None = None
) -> Job[dict[int, int]]:
    """Count the pixels of each value in a folder of masks, as a job.

    Parameters
    ----------
    folder
        Folder of masks, with or without subfolders.
    cancel
        Stops the job.

    Yields
    ------
    Event
        Progress of 'masks' in files.

    Returns
    -------
    dict[int, int]
        Pixels per value, in the order of the values.

    Raises
    ------
    DataError
        If there are no masks, or some cannot be read; every one is listed.
    """
    cancel = cancel or CancelToken()
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    files = image_files(folder, recursive=True)
    if not files:
        raise DataError(f"{folder} holds no masks (PNG, TIFF or BMP).")
    counts: Counter[int] = Counter()
    bad = []
    for done, file in enumerate(files, start=1):
        cancel.raise_if_cancelled()
        try:
            pixels = np.bincount(read_mask_values(file).reshape(-1), minlength=256)
        except DataError as error:
            bad.append(str(error))
        else:
            counts.update({int(v): int(pixels[v]) for v in np.flatnonzero(pixels)})
        yield Progress("masks", done, len(files))
    if bad:
        raise DataError(f"{len(bad)} of {len(files)} masks cannot be read:{listed(bad)}")
    return dict(sorted(counts.items()))


def classes_of_values(values: dict[int, int]) -> ClassTable:
    """Return a class per value, to be named.

    Raises
    ------
    DataError
        If there are fewer than two values, or more than can be classes: masks that count
        objects are no class masks.
    """
    try:
        return ClassTable.from_names([f"value {v}" for v in values], list(values))
    except DataError:
        raise DataError(
            f"The masks hold {len(values)} different values. Masks of classes have one value "
            "per class, at least two in all."
        ) from None
