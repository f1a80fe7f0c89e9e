"""Which patches train and which are held out, and what a model says of its data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from napari_wsss.errors import DataError
from napari_wsss.jobs import Log
from napari_wsss.models import ModelInfo
from napari_wsss.patches import PatchSet
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

__all__ = ["hold_out", "make_info", "typical_size_px"]


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


def typical_size_px(patches: PatchSet, most: int = 64) -> int:
    """Return the median side of up to `most` patches, evenly chosen (pixels)."""
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(most, len(patches))).astype(int))
    return int(np.median([np.median(patches.read(int(i)).shape[:2]) for i in chosen]))


def make_info(
    kind: Literal["classifier", "segmenter"],
    patches: PatchSet,
    settings: ClassifierSettings | SegmenterSettings,
    architecture: dict[str, Any],
    supervision: Literal["patch labels", "pseudo masks", "true masks"],
) -> ModelInfo:
    """Return the header of the model that `patches` and `settings` are going to make."""
    size_px = typical_size_px(patches)
    return ModelInfo(
        kind=kind,
        encoder=settings.encoder.resolved(size_px),
        architecture=architecture,
        classes=patches.classes.to_dict(),
        mpp=patches.mpp,
        patch_size_px=size_px,
        supervision=supervision,
        training=settings.model_dump(mode="json"),
        seed=settings.seed,
    )
