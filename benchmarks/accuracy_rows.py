"""The data sets and the rows of the accuracy table, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_wsss.classes import ClassTable
from napari_wsss.recipes import Recipe, recipe

__all__ = ["PLAN", "ROWS", "SETS", "DataSet", "Row"]

#: Patches, and the training budget of each phase: the same for every row.
SIZE_PX, MIN_SHARE = 112, 0.05
PLAN: Mapping[str, Any] = {
    "epochs": 8,
    "steps_per_epoch": 20,
    "validation_most": 128,
    "precision": "fp32",
}


@dataclass(frozen=True)
class DataSet:
    """Images with masks below the folder of real data.

    Attributes
    ----------
    images, masks
        Folders of files of the same names.
    classes
        With the masks' values.
    stride_px
        Step between training patches.
    """

    images: str
    masks: str
    classes: ClassTable
    stride_px: int


SETS: Mapping[str, DataSet] = {
    "wsss4luad": DataSet(
        "wsss4luad/images_and_masks/img",
        "wsss4luad/images_and_masks/mask",
        ClassTable.from_names(["tumour", "stroma", "normal"], [0, 1, 2], ignore=[3]),
        56,
    ),
    "glas": DataSet(
        "glas/images", "glas/masks", ClassTable.from_names(["gland", "rest"], [255, 0]), 112
    ),
}


@dataclass(frozen=True)
class Row:
    """One way of training.

    Attributes
    ----------
    title
        For the table.
    model
        What is measured: the segmenter, or the classifier's maps alone.
    targets
        What the segmenter learns from.
    base
        Recipe that the changes apply to.
    classifier, pseudo_masks, segmenter
        Changes of the recipe's settings, as the settings take them.
    true_masks
        Training images whose patches carry their true masks besides.
    """

    title: str
    model: Literal["segmenter", "classifier"] = "segmenter"
    targets: Literal["pseudo masks", "true masks"] = "pseudo masks"
    base: str = "mlps"
    classifier: Mapping[str, Any] = field(default_factory=dict)
    pseudo_masks: Mapping[str, Any] = field(default_factory=dict)
    segmenter: Mapping[str, Any] = field(default_factory=dict)
    true_masks: int = 0

    def settings(self, seed: int) -> Recipe:
        """Return the settings of all stages for one seed and the common budget."""
        base = recipe(self.base)
        return base.changed(
            classifier=base.classifier.changed(**self.classifier, **PLAN, seed=seed),
            pseudo_masks=base.pseudo_masks.changed(**self.pseudo_masks),
            segmenter=base.segmenter.changed(**self.segmenter, **PLAN, seed=seed),
        )


ROWS: Mapping[str, Row] = {
    "full": Row("full supervision (true masks)", targets="true masks"),
    "cam": Row("CAM only (deepest map)", model="classifier"),
    "mlps": Row("recipe `mlps`"),
}
