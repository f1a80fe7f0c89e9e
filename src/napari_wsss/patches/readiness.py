"""What stands against training on a patch set, told before it is begun; opens no file."""

from __future__ import annotations

import numpy as np

from napari_wsss.patches.advice import FEW_PATCHES
from napari_wsss.patches.holding_out import hold_out
from napari_wsss.patches.patch_report import Problem
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.patches.problems import label_problems
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

__all__ = ["FEW_PATCHES", "training_problems"]


def training_problems(
    patches: PatchSet, settings: ClassifierSettings | SegmenterSettings
) -> list[Problem]:
    """Return what a user should know before training on `patches` with `settings`.

    Parameters
    ----------
    patches
        The set. Its files are looked at when training begins (`check_trainable`).
    settings
        Say how much is held out, and with which seed.

    Returns
    -------
    list of Problem
        Errors first; without errors training can begin.
    """
    if not len(patches):
        return [Problem("error", "The data set has no patches.")]
    problems = label_problems(patches)
    if any(p.severity == "error" for p in problems):
        return sorted(problems, key=lambda p: p.severity != "error")
    names = patches.classes.names
    _, held, notes = hold_out(patches, settings)
    problems += [
        Problem("warning" if note.level == "warning" else "info", note.message) for note in notes
    ]
    if held is not None:
        absent = [names[k] for k in np.flatnonzero(~held.labels.any(0))]
        if absent:
            problems.append(
                Problem(
                    "warning",
                    f"No held-out patch has {', '.join(absent)}, so nothing tells how well that "
                    "is learnt. Label more patches of other images.",
                )
            )
    return problems
