"""The data sets and the rows of the accuracy table, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from napari_wsss.classes import ClassTable
from napari_wsss.recipes import RECIPES, Recipe, recipe

__all__ = ["PLAN", "ROWS", "SETS", "DataSet", "Row"]

#: Patches, and what is the same on every row; so is the budget of a set.
SIZE_PX, MIN_SHARE = 112, 0.05
PLAN: Mapping[str, Any] = {
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
    epochs, steps_per_epoch
        Training budget of each phase, the same for every row.
    """

    images: str
    masks: str
    classes: ClassTable
    stride_px: int
    epochs: int
    steps_per_epoch: int

    @property
    def budget(self) -> dict[str, int]:
        """The training budget as the settings take it."""
        return {"epochs": self.epochs, "steps_per_epoch": self.steps_per_epoch}


SETS: Mapping[str, DataSet] = {
    "wsss4luad": DataSet(
        "wsss4luad/images_and_masks/img",
        "wsss4luad/images_and_masks/mask",
        ClassTable.from_names(["tumour", "stroma", "normal"], [0, 1, 2], ignore=[3]),
        56,
        8,
        20,
    ),
    "glas": DataSet(
        "glas/images",
        "glas/masks",
        ClassTable.from_names(["gland", "rest"], [255, 0]),
        56,
        12,
        25,
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
        Recipe that the changes apply to; ``"once"`` is what `default` was before.
    classifier, pseudo_masks, segmenter
        Changes of the recipe's settings, as the settings take them.
    second_round
        Changes of the pseudo masks that the trained segmenter makes, for another to learn from;
        None for no second round.
    true_masks
        Training images whose patches carry their true masks besides.
    unlabelled
        The other images have no labels, instead of pseudo masks.
    flipped
        Share of the patch labels that are turned round at random.
    gate
        Whether the gate removes classes at prediction.
    inference
        Other changes of how a model predicts.
    flips
        Whether predictions are averaged over the four flips.
    """

    title: str
    model: Literal["segmenter", "classifier"] = "segmenter"
    targets: Literal["pseudo masks", "true masks"] = "pseudo masks"
    base: str = "mlps"
    classifier: Mapping[str, Any] = field(default_factory=dict)
    pseudo_masks: Mapping[str, Any] = field(default_factory=dict)
    segmenter: Mapping[str, Any] = field(default_factory=dict)
    second_round: Mapping[str, Any] | None = None
    true_masks: int = 0
    unlabelled: bool = False
    flipped: float = 0.0
    gate: bool = True
    inference: Mapping[str, Any] = field(default_factory=dict)
    flips: bool = False

    def settings(self, data: DataSet, seed: int) -> Recipe:
        """Return the settings of all stages for one seed and the budget of a set."""
        base = _BASES[self.base]
        common = {**PLAN, **data.budget, "seed": seed}
        classifier = base.classifier.changed(**self.classifier, **common)
        masks = base.pseudo_masks.changed(**self.pseudo_masks)
        return base.changed(
            classifier=classifier,
            pseudo_masks=masks.resolved(classifier.architecture),
            segmenter=base.segmenter.changed(**self.segmenter, **common),
        )


#: Pseudo masks of every patch as it is, and the gate as it was learnt.
_ONE_VIEW: dict[str, Any] = {"flips": False, "scales": (1.0,)}
_LEARNT_GATE: dict[str, Any] = {"calibrate_gate": False}
_FITTED_GATE: dict[str, Any] = {"calibrate_gate": True}
_DEFAULT = recipe("default")
_BASES = {
    **RECIPES,
    "once": _DEFAULT.changed(
        pseudo_masks=_DEFAULT.pseudo_masks.changed(**_ONE_VIEW),
        segmenter=_DEFAULT.segmenter.changed(**_LEARNT_GATE),
    ),
}
#: The settings' defaults are those of recipe `default`, so what rows of `mlps` leave out is said.
_EMA = {"decay": 0.97, "relabel_from": 1.0, "align": 0.0, "label_uncertain": False}
_RELABEL = {**_EMA, "relabel_from": 0.35}
_LAST: dict[str, Any] = {"choose_by": "last"}
_JOINT = {"deep_supervision": True, "joint_head": True}
_APART = {"overlaps": False}
#: As the recipe `default` once was.
_SURER: dict[str, Any] = {"certainty": 0.8}
_ALL: dict[str, Any] = {"keep_certain": False}
_COLD: dict[str, Any] = {"start_from": "encoder"}
_CERTAIN: dict[str, Any] = {"method": "joint", "certainty": 0.8}
_SURE = {**_LAST, "noise": {"absent_weight": 1.0}, "teacher": _EMA}
_ALIGN = {**_RELABEL, "align": 0.7}
_SEMI = {**_LAST, "teacher": {**_RELABEL, "negatives": 0.5}}

ROWS: Mapping[str, Row] = {
    "full": Row("full supervision (true masks)", targets="true masks", segmenter=_FITTED_GATE),
    "cam": Row("CAM only (deepest map)", model="classifier"),
    "mlps": Row("recipe `mlps`"),
    "default": Row("recipe `default`", base="default"),
    # What could be part of it.
    "default-mosaic": Row(
        "default + mosaics in phase 2", base="default", segmenter={"mosaic_share": 0.3}
    ),
    "default-refined": Row(
        "default + guided filter", base="default", pseudo_masks={"refine_px": 8}
    ),
    # What its parts are worth.
    "default-one-view": Row(
        "default, pseudo masks of each patch in one size, not flipped",
        base="default",
        pseudo_masks=_ONE_VIEW,
    ),
    "default-learnt-gate": Row(
        "default, the gate as it was learnt", base="default", segmenter=_LEARNT_GATE
    ),
    "mlps-fitted-gate": Row("mlps, the gate fitted to held-out labels", segmenter=_FITTED_GATE),
    "full-learnt-gate": Row("full supervision, the gate as it was learnt", targets="true masks"),
    "full-averaged": Row(
        "full supervision, phase 2 as in `default`: the last epoch, weights averaged",
        targets="true masks",
        base="default",
    ),
    "default-gce": Row(
        "default + generalised cross-entropy", base="default", segmenter={"noise": {"loss": "gce"}}
    ),
    "default-sce": Row(
        "default + symmetric cross-entropy", base="default", segmenter={"noise": {"loss": "sce"}}
    ),
    "default-presence": Row(
        "default + presence of classes",
        base="default",
        segmenter={"noise": {"presence_weight": 0.5}},
    ),
    "default-second-round": Row(
        "default + a second round of pseudo masks, from the segmenter",
        base="default",
        second_round={"scales": (1.0,)},  # as seen at its own size by default
    ),
    "default-apart": Row(
        "default without overlapping labels",
        base="default",
        classifier=_APART,
        pseudo_masks=_APART,
        segmenter=_APART,
    ),
    "default-certain": Row(
        "default, uncertain pixels never labelled",
        base="default",
        segmenter={"teacher": {"label_uncertain": False}},
    ),
    # What it once was, and what that was measured with.
    "once": Row("once: one view of each patch, the gate as it was learnt", base="once"),
    "once-cold": Row(
        "once, phase 2 begun with the ImageNet weights", base="once", segmenter=_COLD
    ),
    "once-warm": Row(
        "once, phase 2 begun with the classifier's encoder",
        base="once",
        segmenter={"start_from": "classifier"},
    ),
    "once-refined": Row("once + guided filter", base="once", pseudo_masks={"refine_px": 8}),
    "once-certain": Row(
        "once, uncertain pixels never labelled",
        base="once",
        segmenter={"teacher": {"label_uncertain": False}},
    ),
    "once-relabel": Row(
        "before that: the teacher labels all pixels of patches of several classes",
        base="once",
        pseudo_masks=_SURER,
        segmenter={**_COLD, "teacher": _ALL},
    ),
    "relabel-warm": Row(
        "the same, begun with the classifier's encoder",
        base="once",
        pseudo_masks=_SURER,
        segmenter={"start_from": "classifier", "teacher": _ALL},
    ),
    # What the parts of mlps are worth.
    "mlps-no-pda": Row("mlps without PDA", classifier={"pda": {"enabled": False}}),
    "mlps-deepest": Row("mlps, deepest masks alone", segmenter={"depth_weights": (0, 0, 1)}),
    "mlps-no-gate": Row("mlps without the gate", gate=False),
    "mlps-published-gate": Row(
        "mlps, the gate nearest to the published one: any window above 10 %",
        inference={"gate_windows": "any", "gate_threshold": 0.1},
    ),
    "default-published-gate": Row(
        "default, that gate",
        base="default",
        inference={"gate_windows": "any", "gate_threshold": 0.1},
    ),
    "mlps-flips": Row("mlps, predictions averaged over flips", flips=True),
    # Phase 2 beyond it, on the same pseudo masks.
    "weight": Row("mlps + agreement weighs", segmenter={"noise": {"disagreement": "weight"}}),
    "ignore": Row("mlps + disagreement ignored", segmenter={"noise": {"disagreement": "ignore"}}),
    "gce": Row("mlps + generalised cross-entropy", segmenter={"noise": {"loss": "gce"}}),
    "sce": Row("mlps + symmetric cross-entropy", segmenter={"noise": {"loss": "sce"}}),
    "absent": Row("mlps + certain negatives", segmenter={"noise": {"absent_weight": 0.5}}),
    "presence": Row("mlps + presence of classes", segmenter={"noise": {"presence_weight": 0.5}}),
    "last": Row("mlps, last epoch kept", segmenter=_LAST),
    "by-labels": Row("mlps, epoch chosen by labels", segmenter={"choose_by": "labels"}),
    "ema": Row("mlps + average of weights", segmenter={**_LAST, "teacher": _EMA}),
    "relabel": Row("mlps + teacher relabels", segmenter={**_LAST, "teacher": _RELABEL}),
    "align": Row(
        "mlps + teacher relabels, shares aligned",
        segmenter={**_LAST, "teacher": _ALIGN},
    ),
    "u2pl": Row("mlps + teacher relabels, unreliable pixels as negatives", segmenter=_SEMI),
    # Phase 1 beyond it: class heads at every depth, and one map of all depths.
    "heads": Row(
        "class heads at every depth",
        classifier={"deep_supervision": True},
        pseudo_masks={"method": "heads"},
    ),
    "joint-pooled": Row(
        "joint head, by the mean of its map",
        classifier={**_JOINT, "joint_loss": "pooled"},
        pseudo_masks={"method": "joint"},
    ),
    "joint-cam": Row("joint head alone", model="classifier", classifier=_JOINT),
    "joint": Row("joint head", classifier=_JOINT, pseudo_masks={"method": "joint"}),
    "joint-flips": Row(
        "joint head + flips and scales",
        classifier=_JOINT,
        pseudo_masks={"method": "joint", "flips": True, "scales": (0.75, 1.0, 1.25)},
    ),
    "joint-refined": Row(
        "joint head + guided filter",
        classifier=_JOINT,
        pseudo_masks={"method": "joint", "refine_px": 8},
    ),
    "joint-overlaps": Row(
        "joint head + overlapping labels",
        classifier=_JOINT,
        pseudo_masks={"method": "joint", "overlaps": True},
    ),
    "joint-mosaic": Row(
        "joint head + mosaics",
        classifier={**_JOINT, "mosaic_share": 0.25},
        pseudo_masks={"method": "joint"},
    ),
    "joint-sure": Row(
        "joint head where certain, certain negatives, average of weights",
        classifier=_JOINT,
        pseudo_masks=_CERTAIN,
        segmenter=_SURE,
    ),
    "joint-align": Row(
        "joint head where certain, certain negatives, teacher relabels, shares aligned",
        classifier=_JOINT,
        pseudo_masks=_CERTAIN,
        segmenter={**_SURE, "teacher": {**_ALIGN, **_ALL}},
    ),
    "joint-align-mosaic": Row(
        "the same + mosaics in phase 2",
        classifier=_JOINT,
        pseudo_masks=_CERTAIN,
        segmenter={**_SURE, "teacher": {**_ALIGN, **_ALL}, "mosaic_share": 0.5},
    ),
    # A few true masks, and wrong labels.
    **{
        f"true-{n}": Row(
            f"default + true masks of {n} image{'s' * (n > 1)}", base="default", true_masks=n
        )
        for n in (1, 5, 10)
    },
    **{
        f"once-true-{n}": Row(
            f"once + true masks of {n} image{'s' * (n > 1)}", base="once", true_masks=n
        )
        for n in (1, 5, 10)
    },
    **{
        f"semi-{n}": Row(
            f"true masks of {n} images, the others unlabelled",
            true_masks=n,
            unlabelled=True,
            segmenter=_SEMI,
        )
        for n in (5, 10)
    },
    "flipped": Row("default, 10 % of the labels flipped", base="default", flipped=0.1),
    "once-flipped": Row("once, 10 % of the labels flipped", base="once", flipped=0.1),
    "mlps-flipped": Row("mlps, 10 % of the labels flipped", flipped=0.1),
}
