"""What is weak about the labels of a patch set, and what to label next; opens no file."""

from __future__ import annotations

import math

import numpy as np

from napari_wsss.errors import listed
from napari_wsss.patches.patch_report import Problem
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["FEW_PATCHES", "IMBALANCE", "label_next", "weak_classes"]

#: A class with fewer training patches is hardly learnt.
FEW_PATCHES = 10
#: Beyond so many patches of the most frequent class for one of the rarest, that one suffers.
IMBALANCE = 20


def weak_classes(train: PatchSet) -> list[Problem]:
    """Return warnings about classes that are rare, or known from one image only.

    Parameters
    ----------
    train
        The patches that are learnt from.
    """
    names, labels = train.classes.names, train.labels
    counts = labels.sum(0)
    problems = [
        Problem(
            "warning",
            f"Class {names[k]!r} occurs in {counts[k]} training "
            f"{'patch' if counts[k] == 1 else 'patches'} only; label at least {FEW_PATCHES} so "
            "that it can be learnt.",
        )
        for k in np.flatnonzero((counts > 0) & (counts < FEW_PATCHES))
    ]
    if len(set(train.groups)) > 1:
        for k in np.flatnonzero(counts > 1):
            where = train.class_groups[k]
            if len(where) == 1:
                problems.append(
                    Problem(
                        "warning",
                        f"All {counts[k]} training patches of {names[k]!r} are from one image "
                        f"({where.pop()}): what is learnt may be the look of that image, and "
                        "nothing can be held out to tell. Label some in other images.",
                    )
                )
    occurring = counts[counts > 0]
    if len(occurring) > 1 and occurring.max() > IMBALANCE * occurring.min():
        rare = names[int(np.where(counts > 0, counts, np.inf).argmin())]
        problems.append(
            Problem(
                "warning",
                f"The most frequent class has {occurring.max() / occurring.min():.0f} times the "
                f"patches of {rare!r}; expect few pixels of that class to be found.",
            )
        )
    return problems


def label_next(train: PatchSet) -> list[Problem]:
    """Return one note that says which patches would help most; none if nothing is missing.

    The class that lacks most comes first. Asked for are patches up to `FEW_PATCHES` and within
    `IMBALANCE`, patches of a second image, and patches that show a class alone, whose pseudo
    mask is exact.

    Parameters
    ----------
    train
        The patches that are learnt from.
    """
    labels = train.labels
    counts = labels.sum(0)
    alone = labels[train.single_label].sum(0)
    several = len(set(train.groups)) > 1
    wishes: list[tuple[int, str]] = []
    for k, name in enumerate(train.classes.names):
        wanted = max(FEW_PATCHES, math.ceil(counts.max(initial=0) / IMBALANCE))
        missing = max(0, int(wanted - counts[k]))
        parts = [f"at least {missing} more patches"] if missing else []
        if several and len(train.class_groups[k]) < 2:
            parts.append("from other images" if missing else "patches from other images")
        if not alone[k]:
            parts.append("some that show it alone" if parts else "patches that show it alone")
        if parts:
            wishes.append((missing, f"{name}: {', '.join(parts)}"))
    if not wishes:
        return []
    wishes.sort(key=lambda wish: -wish[0])  # stable: else in the order of the classes
    return [Problem("info", f"Label next:{listed(text for _, text in wishes)}")]
