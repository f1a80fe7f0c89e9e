"""Which patches train, and which are held out to choose the epoch by."""

from __future__ import annotations

import numpy as np

from napari_wsss.errors import DataError
from napari_wsss.jobs import Log
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

__all__ = ["hold_out"]


def hold_out(
    patches: PatchSet, settings: ClassifierSettings | SegmenterSettings
) -> tuple[PatchSet, PatchSet | None, list[Log]]:
    """Return training patches, held-out patches (or None), and what to tell the user.

    A validation split of the set is used as it is; otherwise whole groups are held out.

    Raises
    ------
    DataError
        If the set has no patches to train on.
    """
    train = patches.of_split("train")
    if len(train) == 0:
        raise DataError(f"{patches.root} has no patches of the split 'train'.")
    held = patches.of_split("val")
    if len(held):
        return train, _thinned(held, settings.validation_most), []
    if settings.validation_share == 0:
        return train, None, [Log("No patches are held out; the last epoch will be kept")]
    if len(set(train.groups)) < 2:
        text = "All patches are of one group (image), so none can be held out; the last epoch "
        return train, None, [Log(text + "will be kept", "warning")]
    try:
        train, held = train.split_groups(settings.validation_share, settings.seed)
    except DataError as error:
        return train, None, [Log(f"{error} The last epoch will be kept.", "warning")]
    return train, _thinned(held, settings.validation_most), []


def _thinned(patches: PatchSet, most: int) -> PatchSet:
    """Return at most `most` patches, evenly chosen."""
    if len(patches) <= most:
        return patches
    return patches.subset(np.linspace(0, len(patches) - 1, most).astype(int))
