"""Areas per class, counted at the finest stored level."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.export.blocks import (
    BACKGROUND,
    NOT_COMPUTED,
    LabelArray,
    iter_blocks,
    mpp_yx,
    pair,
)
from napari_wsss.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["class_areas", "export_csv"]


def class_areas(
    labels: LabelArray,
    classes: ClassTable,
    *,
    level0_scale: float | tuple[float, float] = 1.0,
    mpp_labels: float | tuple[float, float] | None = None,
    block_px: int = 2048,
) -> pd.DataFrame:
    """Count the pixels of every class.

    Only the finest level is a measure: coarser levels of a pyramid lose sparse classes.

    Parameters
    ----------
    labels
        The finest stored level, shape (H, W), uint8: class index + 1, 0 background,
        255 not computed. Read block by block.
    classes
        The classes of the labels.
    level0_scale
        Slide pixels (level 0) per label pixel, one number or (y, x).
    mpp_labels
        Size of a *label* pixel in µm, one number or (y, x); None if unknown.
    block_px
        Side of the blocks that are read.

    Returns
    -------
    pandas.DataFrame
        One row per class, then ``background`` and ``not computed``, with the columns
        ``class``, ``label`` (stored value), ``pixels`` (label pixels), ``area_px``
        (slide pixels at level 0), ``area_mm2`` (NaN if the resolution is unknown) and
        ``share_of_tissue`` (of all pixels with a class; NaN for the last two rows).

    Raises
    ------
    DataError
        If the labels cannot be read or do not fit the classes.
    MissingResolutionError
        If `mpp_labels` is given and not a positive number.
    """
    import pandas as pd

    scale_y, scale_x = pair(level0_scale, "scale to level 0")
    mpp = mpp_yx(mpp_labels)
    counts = np.zeros(256, np.int64)
    for _, _, block in iter_blocks(labels, len(classes), block_px):
        counts += np.bincount(block.reshape(-1), minlength=256)
    stored = [*range(1, len(classes) + 1), BACKGROUND, NOT_COMPUTED]
    pixels = counts[stored]
    share = np.full(len(stored), np.nan)
    tissue = pixels[: len(classes)]
    if tissue.sum():
        share[: len(classes)] = tissue / tissue.sum()
    return pd.DataFrame(
        {
            "class": [*classes.names, "background", "not computed"],
            "label": stored,
            "pixels": pixels,
            "area_px": pixels * (scale_y * scale_x),
            "area_mm2": pixels * (mpp[0] * mpp[1] * 1e-6 if mpp else np.nan),
            "share_of_tissue": share,
        }
    )


def export_csv(
    labels: LabelArray,
    path: str | Path,
    classes: ClassTable,
    *,
    level0_scale: float | tuple[float, float] = 1.0,
    mpp_labels: float | tuple[float, float] | None = None,
    block_px: int = 2048,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Write the table of `class_areas` as CSV; what is unknown stays empty.

    Parameters
    ----------
    labels, classes, level0_scale, mpp_labels, block_px
        See `class_areas`.
    path
        The file to write, in UTF-8.
    overwrite
        Whether a file that is there may be replaced.

    Returns
    -------
    pandas.DataFrame
        What was written.

    Raises
    ------
    OutputError
        If the file exists and `overwrite` is false, or it cannot be written.
    DataError, MissingResolutionError
        As `class_areas`.
    """
    with atomic_write(path, overwrite=overwrite) as file:
        table = class_areas(
            labels, classes, level0_scale=level0_scale, mpp_labels=mpp_labels, block_px=block_px
        )
        file.write(table.to_csv(index=False, lineterminator="\n").encode())
    return table
