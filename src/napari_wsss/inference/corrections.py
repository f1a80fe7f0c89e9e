"""Correcting a finished segmentation by hand: regions are read, painted, and written back.

What the model had found is kept in the result, chunk by chunk, so that it can be restored.
``run.json`` lists what was changed, and checksums and areas follow, so that a corrected result
verifies and exports like any other. The uncertainty stays the network's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import MemoryStore

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, SlideError
from napari_wsss.inference.change import locked, replace_files
from napari_wsss.inference.result import (
    LABELS,
    NOT_COMPUTED,
    SlideSegmentation,
    class_shares,
)
from napari_wsss.inference.sealed_files import SealedFiles
from napari_wsss.inference.tiles import Rect
from napari_wsss.inference.verify import read_sums, sealed
from napari_wsss.slides import open_pyramid
from napari_wsss.slides.readers.base import FOREIGN_ERRORS

__all__ = [
    "MAX_REGION_PX",
    "Correction",
    "areas_with",
    "correct_region",
    "corrections_of",
    "model_region",
    "read_region",
    "region_problem",
    "restore_region",
]

#: Longest side of a region (pixels of the result); more than this is slow to paint on.
MAX_REGION_PX = 4096
#: Group in a result with the model's labels of all chunks that were ever corrected, as an
#: array like the finest level; other chunks are missing there.
_KEPT = "corrections"
_GROUP = {"zarr_format": 3, "node_type": "group", "attributes": {}}

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Correction:
    """One line of the record of corrections.

    Attributes
    ----------
    y, x, height, width
        The region, in pixels of the result.
    pixels
        How many of its pixels were changed.
    action
        ``"corrected"`` by hand, or ``"restored"`` to what the model had found.
    when
        Date and time in UTC, ISO 8601.
    """

    y: int
    x: int
    height: int
    width: int
    pixels: int
    action: Literal["corrected", "restored"]
    when: str


def corrections_of(result: SlideSegmentation) -> tuple[Correction, ...]:
    """Return what was corrected in a result, in the order in which it was."""
    return tuple(Correction(**entry) for entry in result.run.get("corrections", ()))


def region_problem(result: SlideSegmentation, rect: Rect) -> str | None:
    """Return why a region cannot be corrected, in words for the user; None if it can."""
    height, width = result.labels.shape
    inside = rect.y + rect.height <= height and rect.x + rect.width <= width
    if min(rect.y, rect.x) < 0 or min(rect.height, rect.width) < 1 or not inside:
        return f"The region ({rect}) does not lie within the result, {height} x {width} px."
    if max(rect.height, rect.width) > MAX_REGION_PX:
        return (
            f"The region is {rect.height} x {rect.width} px; at most {MAX_REGION_PX} x "
            f"{MAX_REGION_PX} can be corrected at once. Zoom in, or take a smaller one."
        )
    return None


def read_region(result: SlideSegmentation, y: int, x: int, height: int, width: int) -> Labels:
    """Read labels of a region.

    Parameters
    ----------
    result
        The segmentation.
    y, x, height, width
        In pixels of the result; at most `MAX_REGION_PX` a side.

    Returns
    -------
    NDArray[np.uint8]
        (height, width): class index + 1, 0 background, 255 not computed. A copy.

    Raises
    ------
    DataError
        If there is no such region, or it is too large.
    SlideError
        If it cannot be read.
    """
    rect = _checked(result, Rect(y, x, height, width))
    return _read(result.labels, rect, result)


def model_region(result: SlideSegmentation, y: int, x: int, height: int, width: int) -> Labels:
    """Read the labels that the model had found in a region, before any correction.

    Parameters, return value and errors are those of `read_region`.
    """
    rect = _checked(result, Rect(y, x, height, width))
    labels = _read(result.labels, rect, result)
    kept = result.path / _KEPT / "model"
    if not kept.is_dir():
        return labels
    side = result.labels.chunks[0]
    try:
        model = zarr.open_array(str(kept), mode="r")
        for top in range(rect.y // side * side, rect.y + rect.height, side):
            for left in range(rect.x // side * side, rect.x + rect.width, side):
                if not (kept / "c" / str(top // side) / str(left // side)).is_file():
                    continue
                y0, x0 = max(top, rect.y), max(left, rect.x)
                y1 = min(top + side, rect.y + rect.height)
                x1 = min(left + side, rect.x + rect.width)
                part = np.s_[y0 - rect.y : y1 - rect.y, x0 - rect.x : x1 - rect.x]
                labels[part] = model[y0:y1, x0:x1]
    except FOREIGN_ERRORS as error:
        raise SlideError(f"The model's labels in {kept} cannot be read: {error}") from error
    return labels


def correct_region(
    result: SlideSegmentation,
    y: int,
    x: int,
    labels: NDArray[Any],
    *,
    before: NDArray[Any] | None = None,
    when: datetime | None = None,
) -> SlideSegmentation:
    """Write corrected labels of a region into a result.

    The coarser levels, the pixels, shares and areas of the summary, the record of corrections
    and the checksums follow. All is written or nothing, also if the process is killed.

    Parameters
    ----------
    result
        The segmentation.
    y, x
        First row and column of the region, in pixels of the result.
    labels
        (h, w) integers: class index + 1, 0 background, 255 not computed.
    before
        (h, w): the labels when the region was taken for painting. Only pixels that differ
        from these are written, so that what somebody else corrected meanwhile stays.
    when
        Recorded time; by default now.

    Returns
    -------
    SlideSegmentation
        The result as it is now; the same as before if no pixel was changed.

    Raises
    ------
    DataError
        If the region does not fit, or a value is none of the result's.
    SlideError
        If a part of the result is damaged; nothing is changed then.
    OutputError
        If another process writes the result, or it cannot be written; nothing is changed
        then.
    """
    painted = np.asarray(labels)
    if painted.ndim != 2:
        raise DataError(f"A region of labels has the shape (h, w), not {painted.shape}.")
    if before is not None and np.shape(before) != painted.shape:
        raise DataError(
            f"The labels before the correction have the shape {np.shape(before)}, those after "
            f"it {painted.shape}. They must be equal."
        )
    _check_values(painted, result.classes)
    rect = Rect(y, x, int(painted.shape[0]), int(painted.shape[1]))

    def new(current: Labels, _: SlideSegmentation) -> Labels:
        if before is None:
            return painted.astype(np.uint8)
        return np.where(painted != before, painted, current).astype(np.uint8)

    return _write(result, rect, new, "corrected", when)


def restore_region(
    result: SlideSegmentation,
    y: int,
    x: int,
    height: int,
    width: int,
    *,
    when: datetime | None = None,
) -> SlideSegmentation:
    """Give a region back the labels that the model had found; otherwise as `correct_region`."""
    rect = Rect(y, x, height, width)

    def new(_: Labels, fresh: SlideSegmentation) -> Labels:
        return model_region(fresh, *rect)

    return _write(result, rect, new, "restored", when)


def areas_with(
    result: SlideSegmentation, before: NDArray[np.uint8], after: NDArray[np.uint8]
) -> list[dict[str, Any]]:
    """Return the summary's rows per class as they are once a region is replaced.

    Parameters
    ----------
    result
        The segmentation.
    before, after
        (h, w) labels of the region, as stored and as corrected.

    Returns
    -------
    list of dict
        ``class``, ``pixels``, ``share_of_tissue`` and ``area_mm2``, background first; from
        the difference of two counts, so exact however large the slide.
    """
    k = len(result.classes) + 1
    counts = np.array([row["pixels"] for row in result.summary()["classes"]], np.int64)
    changed = before != after  # usually few of many
    counts += np.bincount(after[changed], minlength=k)[:k]
    counts -= np.bincount(before[changed], minlength=k)[:k]
    pixel_mm2 = None if result.mpp is None else result.mpp**2 * 1e-6
    return class_shares(counts, result.classes, pixel_mm2)


def _write(
    result: SlideSegmentation,
    rect: Rect,
    new: Callable[[Labels, SlideSegmentation], Labels],
    action: Literal["corrected", "restored"],
    when: datetime | None,
) -> SlideSegmentation:
    """Replace a region by what `new` makes of its labels as they are under the lock."""
    path = result.path
    with locked(path):
        fresh = SlideSegmentation.open(path)
        _checked(fresh, rect)
        files = SealedFiles(path, read_sums(path))
        group = zarr.open_group(MemoryStore(files), path=LABELS, mode="r+")
        pyramid = open_pyramid(group, "r+")
        finest = pyramid.levels[0]
        current = _read(finest, rect, fresh)
        labels = new(current, fresh)
        changed = labels != current
        pixels = int(np.count_nonzero(changed))
        if not pixels:
            return fresh
        box = _bounds(changed)
        top, left = box[0].start, box[1].start
        pyramid.write(rect.y + top, rect.x + left, labels[box])
        height, width = labels[box].shape
        pyramid.update(rect.y + top, rect.x + left, height, width, "mode", ignore=(NOT_COMPUTED,))
        changes = {**_kept(files, finest.path), **files.changes}
        when = when or datetime.now(UTC)
        line = Correction(*rect, pixels, action, when.isoformat(timespec="seconds"))
        record = {
            **fresh.run,
            "summary": {**fresh.summary(), "classes": areas_with(fresh, current, labels)},
            "corrections": [*fresh.run.get("corrections", ()), asdict(line)],
        }
        replace_files(path, {**changes, **sealed(record, files.sums_with(changes))})
        return SlideSegmentation.open(path)


def _kept(files: SealedFiles, level: str) -> dict[str, bytes]:
    """Return files that keep the model's labels of chunks corrected for the first time."""
    kept = {}
    prefix = f"{level}/c/"
    for name in files.changes:
        target = f"{_KEPT}/model/c/{name.removeprefix(prefix)}"
        if name.startswith(prefix) and target not in files.sums:
            kept[target] = files.stored(name)
    if f"{_KEPT}/zarr.json" not in files.sums:
        kept[f"{_KEPT}/zarr.json"] = json.dumps(_GROUP).encode()
        kept[f"{_KEPT}/model/zarr.json"] = files.stored(f"{level}/zarr.json")
    return kept


def _read(labels: zarr.Array, rect: Rect, result: SlideSegmentation) -> Labels:
    try:
        part = labels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
    except FOREIGN_ERRORS as error:
        raise SlideError(
            f"{result.path} cannot be read at {rect}: {error}. Check it with 'napari-wsss verify'."
        ) from error
    return np.array(part, np.uint8)


def _checked(result: SlideSegmentation, rect: Rect) -> Rect:
    problem = region_problem(result, rect)
    if problem is not None:
        raise DataError(problem)
    return rect


def _check_values(labels: NDArray[Any], classes: ClassTable) -> None:
    found: Sequence[int] = np.unique(labels).tolist()
    wrong = [v for v in found if v != NOT_COMPUTED and not 0 <= v <= len(classes)]
    if labels.dtype.kind not in "iu" or wrong:
        raise DataError(
            f"The corrected labels hold {', '.join(map(str, wrong[:10]))}; 0 is background, and "
            f"1 to {len(classes)} are the classes {', '.join(classes.names)}."
        )


def _bounds(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
