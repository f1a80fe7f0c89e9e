"""Rules about patch sets: what makes one unusable, and what makes its results doubtful."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from napari_wsss.errors import listed
from napari_wsss.patches.advice import label_next, weak_classes
from napari_wsss.patches.overlaps import Overlaps
from napari_wsss.patches.patch_report import Problem
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.patches.scanning import FileFacts

__all__ = ["file_problems", "label_problems", "overlap_problems"]

# Formats whose groups and splits the user wrote, so that a divided group is a mistake.
_GROUPS_GIVEN = frozenset({"table", "napari-wsss"})


def label_problems(patches: PatchSet) -> list[Problem]:
    """Return what is wrong with labels, groups and splits; no file is opened.

    Classes are judged on the training split, since only that is learnt from.
    """
    train = patches.train()
    if not len(train):
        return [Problem("error", "There are no patches to train on.")]
    problems = []
    names = patches.classes.names
    per_class = train.labels.sum(0)
    for name, n in zip(names, per_class, strict=True):
        if not n:
            problems.append(
                Problem(
                    "error",
                    f"Class {name!r} occurs in no training patch. Add patches, or take the "
                    "class out of the class table.",
                )
            )
    occurring = np.flatnonzero(per_class)
    if len(occurring) == 1:
        problems.append(
            Problem("error", f"Only one class occurs: {names[occurring[0]]!r}. Two are needed.")
        )
    empty = [n for n, row in zip(train.names, train.labels, strict=True) if not row.any()]
    if empty:
        problems.append(
            Problem("error", f"{len(empty)} training patches have no class:{listed(empty)}")
        )
    problems += _always_together(train, occurring)
    problems += weak_classes(train)
    return problems + _divided_groups(patches) + label_next(train)


def overlap_problems(patches: PatchSet) -> list[Problem]:
    """Return whether labels of patches that overlap contradict each other; opens a few images."""
    overlaps = Overlaps(patches.train())
    if not overlaps.wrong:
        return []
    named = [overlaps.patches.names[i] for i in overlaps.doubtful]
    look = f" Look at these {len(named)} first; not every one is wrong:" if named else ""
    return [
        Problem(
            "warning",
            "Labels of training patches that overlap contradict each other on "
            f"{overlaps.contradicted:.1%} of what they have in common: some are wrong, or lack a "
            f"class that covers little.{look}"
            f"{listed(named)}",
        )
    ]


def file_problems(patches: PatchSet, facts: Sequence[FileFacts]) -> list[Problem]:
    """Return what is wrong with the files, by what opening them showed."""
    problems = []
    errors = [f.error for f in facts if f.error is not None]
    if errors:
        problems.append(
            Problem("error", f"{len(errors)} patches cannot be read:{listed(errors, 200)}")
        )
    total: Counter[int] = Counter()
    for fact in facts:
        total.update(fact.unlisted)
    if total:
        values = ", ".join(f"{value} ({n} px)" for value, n in sorted(total.items()))
        where = [n for n, f in zip(patches.names, facts, strict=True) if f.unlisted]
        problems.append(
            Problem(
                "warning",
                f"Mask values that the class table does not list are ignored: {values}, in "
                f"{len(where)} masks:{listed(where)}",
            )
        )
    return problems + _duplicates(patches, facts)


def _always_together(train: PatchSet, occurring: np.ndarray) -> list[Problem]:
    """Warn of classes that never occur without another: they cannot be told apart."""
    names = train.classes.names
    counts = train.labels.T.astype(np.int64) @ train.labels.astype(np.int64)
    return [
        Problem(
            "warning",
            f"Class {names[a]!r} occurs only together with {names[b]!r}; maps cannot tell the "
            "two apart. Add patches that show it alone.",
        )
        for a in occurring
        for b in occurring
        if a != b and counts[a, b] == counts[a, a]
    ]


def _divided_groups(patches: PatchSet) -> list[Problem]:
    splits_of = defaultdict(set)
    for group, split in zip(patches.groups, patches.split, strict=True):
        splits_of[group].add(split)
    divided = [
        f"{group} ({', '.join(sorted(splits))})"
        for group, splits in sorted(splits_of.items())
        if len(splits) > 1
    ]
    if not divided:
        return []
    return [
        Problem(
            "error" if patches.format in _GROUPS_GIVEN else "warning",
            f"{len(divided)} groups (images, slides or patients) are in several splits, so "
            f"scores on held-out patches come out too high:{listed(divided)}",
        )
    ]


def _duplicates(patches: PatchSet, facts: Sequence[FileFacts]) -> list[Problem]:
    """Judge patches with equal pixels: across splits, with other labels, or merely twice."""
    same = defaultdict(list)
    for i, fact in enumerate(facts):
        if fact.digest is not None:
            same[fact.digest].append(i)
    leaks, contradictions, plain = [], [], []
    for members in same.values():
        if len(members) < 2:
            continue
        text = " = ".join(patches.names[i] for i in members)
        if len({patches.split[i] for i in members}) > 1:
            leaks.append(text)
        elif len({patches.labels[i].tobytes() for i in members}) > 1:
            contradictions.append(text)
        else:
            plain.append(text)
    problems = []
    if leaks:
        problems.append(
            Problem(
                "error",
                f"{len(leaks)} images are in several splits (leakage); keep each in one:"
                f"{listed(leaks)}",
            )
        )
    if contradictions:
        problems.append(
            Problem(
                "warning",
                f"{len(contradictions)} images occur with different labels; correct or remove "
                f"them:{listed(contradictions)}",
            )
        )
    if plain:
        problems.append(
            Problem("warning", f"{len(plain)} images occur several times:{listed(plain)}")
        )
    return problems
