"""Looking a patch set over: `report`, and `check_trainable` before a training run."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from napari_wsss.errors import DataError, listed
from napari_wsss.jobs import CancelToken, Job, run_job
from napari_wsss.patches.patch_report import PatchReport, Problem
from napari_wsss.patches.patch_set import SPLITS, PatchSet
from napari_wsss.patches.problems import file_problems, label_problems, overlap_problems
from napari_wsss.patches.scanning import FileFacts, scan_job

__all__ = ["check_trainable", "check_trainable_job", "report", "report_job"]

_RANK = {"error": 0, "warning": 1, "info": 2}


def report_job(
    patches: PatchSet,
    *,
    deep: bool = True,
    check_labels: bool = False,
    check_overlaps: bool = True,
    device: str = "auto",
    cancel: CancelToken | None = None,
) -> Job[PatchReport]:
    """Look a patch set over, as a job; see `report`.

    Yields
    ------
    Event
        Progress of 'scan' and 'patches looked at' in patches.
    """
    facts = yield from scan_job(patches, deep, cancel or CancelToken())
    problems = [*label_problems(patches), *file_problems(patches, facts)]
    if check_overlaps and deep and not any(p.severity == "error" for p in problems):
        problems += overlap_problems(patches)
    if check_labels and not any(p.severity == "error" for p in problems):
        # It brings torch, which a report without it does not need.
        from napari_wsss.patches.doubts import doubts_job, doubts_problem

        doubts = yield from doubts_job(patches, device=device, cancel=cancel)
        problems += doubts_problem(doubts, len(patches.train()))
    names = np.array(patches.classes.names, dtype=object)
    combinations = Counter(" + ".join(names[row]) or "(none)" for row in patches.labels)
    per_class = patches.labels.sum(0)
    occurring = per_class[per_class > 0]
    split = np.array(patches.split, dtype=object)
    splits = [s for s in SPLITS if s in patches.split]
    bright = [f.bright_share for f in facts if f.bright_share is not None]
    sizes = Counter(f"{f.size[1]} x {f.size[0]}" for f in facts if f.size is not None)
    return PatchReport(
        root=str(patches.root),
        format=patches.format,
        n_patches=len(patches),
        n_groups=len(set(patches.groups)),
        mpp=patches.mpp,
        classes=_named(patches, per_class),
        combinations=dict(combinations.most_common()),
        splits={s: patches.split.count(s) for s in splits},
        split_classes={s: _named(patches, patches.labels[split == s].sum(0)) for s in splits},
        sizes_px=dict(sizes.most_common()),
        imbalance=float(occurring.max() / occurring.min()) if occurring.size else 0.0,
        single_label=int(patches.single_label.sum()),
        unreadable=tuple(f.error for f in facts if f.error is not None),
        duplicates=_duplicates(patches, facts),
        glass_share=float(np.mean(bright)) if bright else None,
        problems=tuple(sorted(problems, key=lambda p: _RANK[p.severity])),
    )


def report(
    patches: PatchSet, *, deep: bool = True, check_labels: bool = False, device: str = "auto"
) -> PatchReport:
    """Look a patch set over: what it holds, and what is wrong with it.

    Parameters
    ----------
    patches
        The set.
    deep
        Decode every image and mask, to find damaged files, duplicates and unlisted mask
        values; False reads the headers of the images only.
    check_labels
        Look for labels that patches of other images speak against, too, if nothing else must
        be mended first; the packaged encoder looks at every training patch.
    device
        Where it does.

    Returns
    -------
    PatchReport
        Nothing about the set raises; everything wrong is in ``problems``.
    """
    return run_job(report_job(patches, deep=deep, check_labels=check_labels, device=device))


def check_trainable(patches: PatchSet, *, deep: bool = True) -> PatchReport:
    """Refuse a set that cannot be trained on, before time is spent on it.

    Parameters
    ----------
    patches
        The set, with its validation split if it has one.
    deep
        Decode every image, too; False reads headers only.

    Returns
    -------
    PatchReport
        For the warnings in it.

    Raises
    ------
    DataError
        Listing every problem of severity 'error', not only the first.
    """
    return run_job(check_trainable_job(patches, deep=deep))


def check_trainable_job(
    patches: PatchSet, *, deep: bool = True, cancel: CancelToken | None = None
) -> Job[PatchReport]:
    """Do as `check_trainable`, as a job.

    Yields
    ------
    Event
        Progress of 'scan' in patches.
    """
    found = yield from report_job(patches, deep=deep, check_overlaps=False, cancel=cancel)
    raise_errors(found.root, [p for p in found.problems if p.severity == "error"])
    return found


def raise_errors(root: str, errors: Sequence[Problem]) -> None:
    """Raise DataError that lists `errors`, if there are any."""
    if errors:
        raise DataError(
            f"The patch set {root} cannot be trained on:{listed(e.message for e in errors)}"
        )


def _named(patches: PatchSet, counts: np.ndarray) -> dict[str, int]:
    return {name: int(n) for name, n in zip(patches.classes.names, counts, strict=True)}


def _duplicates(patches: PatchSet, facts: Sequence[FileFacts]) -> tuple[tuple[str, ...], ...]:
    by_digest: dict[bytes, list[str]] = defaultdict(list)
    for name, fact in zip(patches.names, facts, strict=True):
        if fact.digest is not None:
            by_digest[fact.digest].append(name)
    return tuple(tuple(names) for names in by_digest.values() if len(names) > 1)
