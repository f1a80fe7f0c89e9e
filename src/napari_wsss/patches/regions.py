"""What belongs together when patches of slides are held out for validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError
from napari_wsss.patches.splitting import validation_groups

__all__ = ["Grouping", "group_patches", "slide_of_region"]

#: Share held out to try whether groups allow it; training's default.
_SHARE = 0.15
#: Sides of regions that are tried, in patches, and how many regions there should be.
_SIDES, _ENOUGH = (32, 16, 8, 4, 2, 1), 8
#: Between the name of a slide and the row and column of a region.
_REGION = " region "


class Grouping(NamedTuple):
    """Groups of patches.

    Attributes
    ----------
    groups
        One name per patch.
    region_side
        Side of the regions in patches; None if the groups are whole slides.
    """

    groups: tuple[str, ...]
    region_side: int | None


def group_patches(
    slides: Sequence[str],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    labels: NDArray[np.bool_],
    *,
    by_slide: bool = True,
) -> Grouping:
    """Group patches by slide or, where no slide can be spared, by regions of the slides.

    Neighbouring patches look alike, so a patch next to training patches proves little.
    Regions are therefore as large as they can be with something left to hold out.

    Parameters
    ----------
    slides
        N names.
    rows, columns
        (N,) place of each patch in the grid of its slide.
    labels
        (N, K) bool; regions are small enough if some can be held out and no class is lost.
    by_slide
        Whether slides are preferred where one can be spared.
    """
    if by_slide and _sparable(slides, labels):
        return Grouping(tuple(slides), None)
    best: Grouping | None = None
    for side in _SIDES:
        places = zip(slides, rows // side, columns // side, strict=True)
        groups = tuple(f"{slide}{_REGION}{r}-{c}" for slide, r, c in places)
        if not _sparable(groups, labels):
            continue
        best = Grouping(groups, side)
        if len(set(groups)) >= _ENOUGH:
            break
    return best or Grouping(tuple(slides), None)


def slide_of_region(group: str) -> str | None:
    """Return the slide of a group that `group_patches` named after a region; None for others."""
    found = re.fullmatch(rf"(.+){_REGION}\d+-\d+", group)
    return None if found is None else found[1]


def _sparable(groups: Sequence[str], labels: NDArray[np.bool_]) -> bool:
    """Whether some group can be held out without a class being lost."""
    try:
        validation_groups(labels, groups, _SHARE, 0, [""] * labels.shape[1])
    except DataError:
        return False
    return True
