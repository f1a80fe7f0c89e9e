"""Cutting labelled patches from images with masks.

The masks give the labels at patch level, and true masks per patch to measure with.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.jobs import CancelToken, Job, Log, Progress, run_job
from napari_wsss.patches.cut_checks import check_cuttable, splits_of
from napari_wsss.patches.cut_rules import CutRules
from napari_wsss.patches.formats.common import MIN_SHARE, class_presence
from napari_wsss.patches.loading import load_patches
from napari_wsss.patches.output import DatasetWriter
from napari_wsss.patches.pairs import Pair, check_pairs_job, match_pairs, read_pair
from napari_wsss.patches.patch_set import Glass, PatchSet, default_glass
from napari_wsss.patches.windows import window_origins

__all__ = ["cut_patches", "cut_patches_job"]

_Files = str | Path | Sequence[str | Path]


@dataclass
class _Counts:
    """How many images and windows were used, and why others were not."""

    images: int = 0
    patches: int = 0
    skipped_without_class: int = 0
    skipped_mostly_ignored: int = 0
    images_too_small: list[str] = field(default_factory=list)


def cut_patches(
    images: _Files,
    masks: _Files,
    classes: ClassTable | str | Path,
    out: str | Path,
    *,
    size_px: int = 112,
    stride_px: int = 56,
    min_share: float = MIN_SHARE,
    mpp: float | None = None,
    glass: Literal["auto"] | Glass = "auto",
    max_ignored: float = 1.0,
    split: str | Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> PatchSet:
    """Cut a patch set from images with masks.

    The windows cover each image to its right and bottom border; the last of a row or
    column is moved back inside. The set appears in `out` only when it is complete.

    Parameters
    ----------
    images, masks
        Folders or lists of files; partners have the same name but for the suffix.
    classes
        Class table with mask values, or a ``classes.toml`` file.
    out
        Folder to write; it must not exist, unless `overwrite`.
    size_px, stride_px
        Side of a patch and step between patches.
    min_share
        A class is present where it covers this share of *all* pixels of the patch,
        ignored ones included. Windows without a class are skipped and counted.
    mpp
        µm/px of the images; None where unknown.
    glass
        'ignore' or 'tissue' as in `PatchSet`; 'auto' is 'ignore' if the table ignores any
        mask value.
    max_ignored
        Windows with a larger share of ignored pixels are skipped and counted.
    split
        Split of all images, or of each image by its name (path in the folder without
        suffix).
    overwrite
        Replace `out` if it is a folder that this function wrote.

    Returns
    -------
    PatchSet
        Loaded from `out`; the group of a patch is its image.

    Raises
    ------
    DataError
        If anything about the input is not usable; every offender is listed, and nothing
        has been written then.
    OutputError
        If `out` exists or cannot be written.
    """
    rules = CutRules(
        size_px=size_px,
        stride_px=stride_px,
        min_share=min_share,
        mpp=mpp,
        glass=glass,
        max_ignored=max_ignored,
    )
    return run_job(
        cut_patches_job(images, masks, classes, out, rules, split=split, overwrite=overwrite)
    )


def cut_patches_job(
    images: _Files,
    masks: _Files,
    classes: ClassTable | str | Path,
    out: str | Path,
    rules: CutRules | None = None,
    *,
    split: str | Mapping[str, str] | None = None,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[PatchSet]:
    """Do what `cut_patches` does, which documents the parameters, as a job.

    It yields the progress of 'check' and 'cut' in images, and warnings. Cancelled, it leaves
    nothing behind.
    """
    rules = rules or CutRules()
    cancel = cancel or CancelToken()
    table = classes if isinstance(classes, ClassTable) else ClassTable.read(classes)
    rules.check()
    check_cuttable(table)
    pairs, problems = match_pairs(images, masks)
    splits = splits_of([pair.key for pair in pairs], split)
    sources = [
        Path(file)
        for given in (images, masks)
        for file in ([given] if isinstance(given, str | Path) else given)
    ]
    writing = DatasetWriter(Path(out), table, overwrite=overwrite, sources=sources)
    unlisted = yield from check_pairs_job(pairs, problems, table, cancel)
    if unlisted:
        yield Log(_unlisted_text(unlisted), "warning")
    counts = _Counts()
    with writing as writer:
        for done, pair in enumerate(pairs, start=1):
            yield from _cut(pair, table, rules, splits[pair.key], writer, counts, cancel)
            yield Progress("cut", done, len(pairs))
        if not counts.patches:
            raise DataError(_nothing_text(counts, rules, len(pairs)))
        writer.finish(_header(rules, table, counts, unlisted))
    yield Log(
        f"{counts.patches} patches from {counts.images} images; skipped "
        f"{counts.skipped_without_class} windows without a class, "
        f"{counts.skipped_mostly_ignored} mostly ignored."
    )
    return load_patches(out)


def _cut(
    pair: Pair,
    table: ClassTable,
    rules: CutRules,
    split: str,
    writer: DatasetWriter,
    counts: _Counts,
    cancel: CancelToken,
) -> Job[None]:
    """Write the patches of one image and count them."""
    image, mask = read_pair(pair)
    indices = table.lookup()[mask]
    size = rules.size_px
    if min(mask.shape) < size:
        counts.images_too_small.append(pair.key)
        yield Log(
            f"{pair.image}: {mask.shape[1]} x {mask.shape[0]} px is smaller than a "
            f"patch ({size} px); skipped.",
            "warning",
        )
        return
    counts.images += 1
    for y, x in window_origins(mask.shape, size, rules.stride_px):
        cancel.raise_if_cancelled()
        window = np.s_[y : y + size, x : x + size]
        labels = _labels(indices[window], len(table), rules, counts)
        if labels is not None:
            name = f"{pair.flat_key}_y{y:05d}_x{x:05d}"
            writer.add(name, image[window], mask[window], labels, pair.key, split)


def _labels(
    indices: NDArray[np.uint8],
    n_classes: int,
    rules: CutRules,
    counts: _Counts,
) -> NDArray[np.bool_] | None:
    """Return the label vector of a window, None if it is to be skipped; count either."""
    if float((indices >= n_classes).mean()) > rules.max_ignored:
        counts.skipped_mostly_ignored += 1
        return None
    labels = class_presence(indices, n_classes, rules.min_share)
    if not labels.any():
        counts.skipped_without_class += 1
        return None
    counts.patches += 1
    return labels


def _header(
    rules: CutRules,
    table: ClassTable,
    counts: _Counts,
    unlisted: Mapping[str, Mapping[int, int]],
) -> dict[str, Any]:
    """Return what the set says of how it was made."""
    return {
        **({} if rules.mpp is None else {"mpp": float(rules.mpp)}),
        "size_px": rules.size_px,
        "stride_px": rules.stride_px,
        "min_share": float(rules.min_share),
        "max_ignored": float(rules.max_ignored),
        "glass": default_glass(table) if rules.glass == "auto" else rules.glass,
        "counts": vars(counts),
        "unlisted_mask_values": {
            key: {str(value): n for value, n in odd.items()} for key, odd in unlisted.items()
        },
    }


def _nothing_text(counts: _Counts, rules: CutRules, images: int) -> str:
    return (
        f"No patch of {rules.size_px} px with a class was found in {images} images: "
        f"{len(counts.images_too_small)} images are too small, "
        f"{counts.skipped_without_class} windows have no class that covers "
        f"{rules.min_share:.0%}, {counts.skipped_mostly_ignored} are mostly ignored."
    )


def _unlisted_text(unlisted: Mapping[str, Mapping[int, int]]) -> str:
    total: Counter[int] = Counter()
    for odd in unlisted.values():
        total.update(odd)
    values = ", ".join(f"{value} ({n} px)" for value, n in sorted(total.items()))
    return (
        f"Mask values that the class table does not list are ignored: {values}, in "
        f"{len(unlisted)} images:{listed(unlisted)}"
    )
