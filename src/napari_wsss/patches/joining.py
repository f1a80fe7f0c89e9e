"""Patch sets put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from napari_wsss.errors import DataError, listed
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["joined"]

#: Levels of slides are used as they are up to this far from the µm/px that was asked for, so
#: patches of one model may differ by as much.
_MPP_TOLERANCE = 0.02


def joined(first: PatchSet, *others: PatchSet) -> PatchSet:
    """Return one set with the patches of several, in that order.

    Parameters
    ----------
    first
        Its class table, rule of glass, root and format are those of the whole.
    others
        Sets of the same classes.

    Returns
    -------
    PatchSet
        With masks if any of the sets has some.

    Raises
    ------
    DataError
        If the classes are not the same in the same order, µm/px differ by more than 2 % or
        are known of one set only, masks have other values, or two patches have the same name.
    """
    problems = []
    for other in others:
        if other.classes.names != first.classes.names:
            problems.append(
                f"{other.root} has the classes {', '.join(other.classes.names)}, {first.root} "
                f"{', '.join(first.classes.names)}; they must be the same, in the same order"
            )
        elif other.masks is not None and _values(other) != _values(first):
            problems.append(f"{other.root}: its masks have other values than {first.root}")
        if not _same_mpp(first.mpp, other.mpp):
            problems.append(
                f"{other.root} has {_text(other.mpp)}, {first.root} {_text(first.mpp)}"
            )
        twice = sorted(set(first.names) & set(other.names))
        if twice:
            problems.append(f"{other.root} and {first.root} both have: {', '.join(twice[:5])}")
    if problems:
        raise DataError(f"These patch sets cannot be joined:{listed(problems)}")
    sets = (first, *others)
    masks = None
    if any(s.masks is not None for s in sets):
        masks = tuple(m for s in sets for m in (s.masks or (None,) * len(s)))
    return replace(
        first,
        paths=tuple(p for s in sets for p in s.paths),
        names=tuple(n for s in sets for n in s.names),
        labels=np.concatenate([s.labels for s in sets]),
        groups=tuple(g for s in sets for g in s.groups),
        split=tuple(x for s in sets for x in s.split),
        masks=masks,
    )


def _values(patches: PatchSet) -> list[int | None]:
    return [c.value for c in patches.classes.classes]


def _same_mpp(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a / b - 1) <= _MPP_TOLERANCE


def _text(mpp: float | None) -> str:
    return "unknown µm/px" if mpp is None else f"{mpp:g} µm/px"
