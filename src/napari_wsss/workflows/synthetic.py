"""A synthetic slide as images with masks, which patches are cut from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.samples import SyntheticSlide

__all__ = ["PATCH_PX", "STRIDE_PX", "index_values", "region_folders", "save_regions"]

#: Side of the regions that a slide is cut into, and of patches and their step (px).
REGION_PX = 512
PATCH_PX, STRIDE_PX = 128, 64


def save_regions(slide: SyntheticSlide, folder: Path) -> tuple[Path, Path]:
    """Cut a slide into regions and save images and masks (glass as K); return both folders."""
    images, masks = region_folders(folder)
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(exist_ok=True)
    values = np.where(slide.truth == IGNORE, len(slide.classes), slide.truth).astype(np.uint8)
    for y in range(0, slide.truth.shape[0], REGION_PX):
        for x in range(0, slide.truth.shape[1], REGION_PX):
            area = np.s_[y : y + REGION_PX, x : x + REGION_PX]
            if (slide.truth[area] == IGNORE).all():
                continue
            Image.fromarray(slide.image[area]).save(images / f"y{y:04d}_x{x:04d}.png")
            Image.fromarray(values[area]).save(masks / f"y{y:04d}_x{x:04d}.png")
    return images, masks


def region_folders(folder: Path) -> tuple[Path, Path]:
    """Return where `save_regions` puts images and masks."""
    return folder / "images", folder / "masks"


def index_values(classes: ClassTable) -> ClassTable:
    """Return the classes with the mask values that `save_regions` writes."""
    return ClassTable.from_names(
        classes.names,
        list(range(len(classes))),
        [c.color for c in classes.classes],
        ignore=[len(classes)],
    )
