"""Which patches train and which are held out, and what a model says of its data."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from napari_wsss.models import ModelInfo
from napari_wsss.patches import PatchSet
from napari_wsss.patches.holding_out import hold_out
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

__all__ = ["hold_out", "make_info", "typical_size_px"]


def typical_size_px(patches: PatchSet, most: int = 64) -> int:
    """Return the median side of up to `most` patches, evenly chosen (pixels)."""
    chosen = np.unique(np.linspace(0, len(patches) - 1, min(most, len(patches))).astype(int))
    return int(np.median([np.median(patches.read(int(i)).shape[:2]) for i in chosen]))


def make_info(
    kind: Literal["classifier", "segmenter"],
    patches: PatchSet,
    settings: ClassifierSettings | SegmenterSettings,
    architecture: dict[str, Any],
    supervision: str,
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
