"""Phase 1: the classifier, and how its maps become pseudo masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from napari_wsss.settings.base import Settings
from napari_wsss.settings.network import TrainingSettings

__all__ = ["JOINT_WIDTH", "ClassifierSettings", "PDASettings", "PseudoMaskSettings"]


class PDASettings(Settings):
    """Progressive Dropout Attention (Han et al. 2022, section 3.1)."""

    enabled: bool = Field(True, description="Drop the most discriminative part of each CAM.")
    warmup_epochs: int = Field(3, ge=0, description="Epochs before it begins (mu stays 1).")
    sigma: float = Field(0.985, gt=0, le=1, description="Factor on mu per epoch after that.")
    lower: float = Field(0.65, gt=0, le=1, description="Smallest mu.")


#: Channels that the joint head reduces each depth to.
JOINT_WIDTH = 64
#: Methods that give one map of probabilities instead of a map of each depth.
_ONE_MAP = ("joint", "segmenter")
#: Of the pixels of one map, where the settings leave it open.
JOINT_CERTAINTY = 0.7
#: How large the joint head sees a patch, where the settings leave it open: where two classes meet
#: it favours one of them, and which one depends on the size.
JOINT_SCALES = (0.66, 1.0, 1.25, 1.5)


class ClassifierSettings(TrainingSettings):
    """Phase 1: the multi-label classifier whose CAMs become pseudo masks."""

    depths: tuple[int, ...] = Field(
        (-3, -2, -1),
        min_length=1,
        description="Encoder stages that give maps, shallow to deep; -1 is the deepest.",
    )
    deep_supervision: bool = Field(
        True, description="Train a class head at every depth (needed for 'heads' maps)."
    )
    joint_head: bool = Field(
        True,
        description="Train a class head on the joined features of all depths, at the resolution "
        "of the shallowest (needed for 'joint' maps).",
    )
    joint_loss: Literal["pixels", "pooled"] = Field(
        "pixels",
        description="What the joint head learns: that every pixel has one of its patch's classes "
        "and each of these is found somewhere ('pixels'), or as the other heads, by the mean of "
        "its map ('pooled').",
    )
    found_weight: float = Field(
        0.5,
        ge=0,
        le=10,
        description="Weight of the second half of 'pixels': each class of a patch is found in it.",
    )
    mosaic_share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of every batch that is put together from parts of two single-label "
        "patches, so that the joint head sees borders whose place is known.",
    )
    overlaps: bool = Field(
        True,
        description="Where patches overlap, the joint head learns that a pixel has a class that "
        "all of them have. Places are read from names that end in '_y00056_x00112', as 'patches "
        "from-masks' writes them.",
    )
    pda: PDASettings = Field(PDASettings(), description="Progressive Dropout Attention.")
    choose_by: Literal["labels", "last"] = Field(
        "last",
        description="Which epoch is kept: the one with the best mean average precision on "
        "held-out labels, or the last. Labels are soon named right, maps go on getting better.",
    )
    patience: int = Field(
        8,
        ge=1,
        description="Stop after so many epochs without a better validation score, where that "
        "chooses the epoch.",
    )

    @property
    def architecture(self) -> dict[str, Any]:
        """What a checkpoint says of the network, besides the encoder."""
        common = {"depths": list(self.depths), "deep_supervision": self.deep_supervision}
        # Left out where there is none, so that headers stay what they were.
        return {**common, "joint_head": JOINT_WIDTH} if self.joint_head else common


_Scale = Annotated[float, Field(ge=0.25, le=4)]


class PseudoMaskSettings(Settings):
    """How maps become pseudo masks."""

    method: Literal["auto", "gradcam", "heads", "joint", "segmenter"] = Field(
        "auto",
        description="'gradcam' at every depth, the class 'heads' of every depth, or the 'joint' "
        "head of all depths, which gives one mask; 'auto' takes the last of these that the "
        "classifier was trained for. Of a segmenter, for a second round, its own probabilities: "
        "'segmenter', or 'auto'.",
    )
    flips: bool = Field(
        True,
        description="Average over the four flips of the patch, or over its sizes, each flipped "
        "otherwise.",
    )
    scales: Literal["auto"] | Annotated[tuple[_Scale, ...], Field(min_length=1)] = Field(
        "auto",
        description="Average over the patch enlarged or reduced by these factors: maps or, of "
        "'joint' and 'segmenter', probabilities. 'auto' is 0.66, 1, 1.25, 1.5 for the joint "
        "head and 1 otherwise.",
    )
    overlaps: bool = Field(
        True,
        description="Where patches overlap, a pixel can only have classes that all of them have.",
    )
    refine_px: int = Field(
        0,
        ge=0,
        le=64,
        description="Borders of the maps follow those of the image within so many pixels (guided "
        "filter); 0 is off.",
    )
    certainty: Literal["auto"] | Annotated[float, Field(ge=0, le=1)] = Field(
        "auto",
        description="In patches of several classes, pixels less certain than this stay without a "
        "class: by the share of depths that agree with the deepest or, of one map, by the "
        "probability among the label's classes; 0 keeps all; 'auto' is 0.7 for 'joint' and "
        "'segmenter' and 0 otherwise.",
    )
    threshold: float = Field(
        0.0,
        ge=0,
        le=1,
        description="In patches of several classes, pixels whose strongest map is below this "
        "share of its range stay without a class; 0 keeps all.",
    )
    glass: Literal["auto", "ignore", "tissue"] = Field(
        "auto",
        description="White pixels: left out ('ignore'), or tissue like the rest ('tissue', fat "
        "in breast). 'auto' leaves them out if the class table ignores any mask value.",
    )
    glass_luminance: int = Field(
        200, ge=0, le=255, description="Pixels brighter than this are glass."
    )
    glass_min_px: int = Field(
        50, ge=0, description="Smaller bright components stay tissue (pixels)."
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=4096,
        description="Patches per forward pass; halved by itself if memory runs out.",
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32",
        description="'fp32' gives the same masks on every machine; 'auto' takes the quicker bf16 "
        "where the processor or GPU computes in it, and changes some pixels by rounding.",
    )

    @property
    def one_map(self) -> bool:
        """Whether `method`, once it is settled, gives one map of probabilities."""
        return self.method in _ONE_MAP

    @property
    def least_certainty(self) -> float:
        """`certainty` as a number, once `method` is settled."""
        if self.certainty == "auto":
            return JOINT_CERTAINTY if self.one_map else 0.0
        return self.certainty

    @property
    def sizes(self) -> tuple[float, ...]:
        """`scales` as numbers, once `method` is settled."""
        if self.scales == "auto":
            return JOINT_SCALES if self.method == "joint" else (1.0,)
        return self.scales

    def resolved(self, architecture: Mapping[str, Any]) -> Self:
        """Return these settings, with what is 'auto' as it applies to a model.

        Parameters
        ----------
        architecture
            Of the classifier or segmenter, as its checkpoint or the `architecture` of its
            settings says it.
        """
        best = "heads" if architecture.get("deep_supervision") else "gradcam"
        if architecture.get("joint_head"):
            best = "joint"
        if "decoder" in architecture:
            best = "segmenter"
        settled = self.changed(method=best) if self.method == "auto" else self
        return settled.changed(certainty=settled.least_certainty, scales=settled.sizes)
