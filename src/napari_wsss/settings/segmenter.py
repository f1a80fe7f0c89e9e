"""Phase 2: the segmentation network."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from napari_wsss.settings.base import Settings
from napari_wsss.settings.network import TrainingSettings

__all__ = ["NoiseSettings", "SegmenterSettings", "TeacherSettings"]


class NoiseSettings(Settings):
    """How phase 2 treats pseudo masks that may be wrong.

    Patches with one label and true masks are right, and always learnt as they are.
    """

    disagreement: Literal["learn", "weight", "ignore"] = Field(
        "learn",
        description="Pixels on which the depths disagree: learnt like the rest, weighted by the "
        "share of depths that agree with the deepest, or left out.",
    )
    loss: Literal["ce", "gce", "sce"] = Field(
        "ce",
        description="Cross-entropy, or one that wrong labels pull at less: generalised "
        "('gce', Zhang & Sabuncu 2018) or symmetric ('sce', Wang et al. 2019).",
    )
    absent_weight: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of the loss that says of every pixel that it is none of the classes "
        "its patch does not have; 0 is off.",
    )
    presence_weight: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of the loss that says that every class of a patch covers some of "
        "it; 0 is off.",
    )


class TeacherSettings(Settings):
    """An average of the network's weights over training steps, the mean teacher."""

    decay: float = Field(
        0.97,
        ge=0,
        lt=1,
        description="Share of the average that stays at each step; what is kept in the "
        "end is the average. 0 is off.",
    )
    relabel_from: float = Field(
        0.35,
        ge=0,
        le=1,
        description="From this share of the epochs on, pixels of patches of several classes are "
        "learnt from the teacher's labels, restricted to the classes of their patch; 1 is never.",
    )
    keep_certain: bool = Field(
        True,
        description="Where pseudo masks leave out what is uncertain, the teacher labels just "
        "that, and the other pixels keep their class. Otherwise it labels all.",
    )
    unreliable: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of those pixels, the teacher's most uncertain ones by entropy, that "
        "teach no class at first; it falls to 0 over the epochs.",
    )
    align: float = Field(
        0.7,
        ge=0,
        le=1,
        description="How far the teacher's probabilities are corrected so that the classes of a "
        "patch cover equal parts of it on average over patches: 0 not, 1 wholly. Without it a "
        "class whose maps are broad takes more and more.",
    )
    label_uncertain: bool = Field(
        True,
        description="It labels tissue, too, that the pseudo masks left without a class for being "
        "uncertain.",
    )
    negatives: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Weight of the loss that says of unreliable pixels that they are none of the "
        "classes that the teacher finds improbable; 0 is off.",
    )
    unlabelled_share: float = Field(
        0.25,
        ge=0,
        lt=1,
        description="Share of every batch that is drawn from unlabelled tiles, if there are any, "
        "while the teacher labels them.",
    )


class SegmenterSettings(TrainingSettings):
    """Phase 2: the segmentation network, from pseudo masks or from true masks."""

    decoder: Literal["unet", "deeplabv3plus"] = Field(
        "unet",
        description="'deeplabv3plus' as in the paper, or 'unet', whose result does not depend on "
        "how a slide is cut into blocks.",
    )
    encoder_stages: int = Field(
        4,
        ge=1,
        le=12,
        description="How many of the encoder's stages, from the shallowest, the U-Net uses; the "
        "last stages cost most and see farthest, so leaving one out makes slides faster.",
    )
    decoder_channels: Literal["auto"] | Annotated[int, Field(ge=16, le=1024)] = Field(
        "auto",
        description="Channels of the decoder's widest layer; 'auto' takes 64 for 'unet' and 256, "
        "as published, for 'deeplabv3plus'.",
    )
    start_from: Literal["auto", "encoder", "classifier"] = Field(
        "auto",
        description="What the encoder begins with: the weights that 'encoder.weights' names, or "
        "those of the model that made the pseudo masks, where it is the same network; 'auto' "
        "takes the latter if every class occurs in at least ten images or slides, as a "
        "classifier knows fewer by heart.",
    )
    depth_weights: tuple[float, ...] = Field(
        (0.2, 0.2, 0.6),
        min_length=1,
        description="Weight of the loss of each depth's pseudo masks, shallow to deep.",
    )
    gate_weight: float = Field(
        0.2, ge=0, le=10, description="Weight of the patch-label loss that trains the gate head."
    )
    calibrate_gate: bool = Field(
        True,
        description="Shift the gate's logit of each class so that it fits the labels of held-out "
        "patches; a class of a few images is then found less readily in tissue of others.",
    )

    noise: NoiseSettings = Field(NoiseSettings(), description="Pseudo masks that may be wrong.")
    mosaic_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the patches with one label that are put together with another such "
        "patch, so that borders are learnt whose place is known.",
    )
    overlaps: bool = Field(
        True,
        description="Where patches overlap, the teacher gives a pixel no other class than the "
        "only one that all of them have.",
    )
    teacher: TeacherSettings = Field(TeacherSettings(), description="The average of the weights.")
    choose_by: Literal["targets", "labels", "last"] = Field(
        "last",
        description="Which epoch is kept: the one that agrees best with held-out masks of the "
        "kind it learns from, with the labels of held-out patches, or the last.",
    )

    @property
    def architecture(self) -> dict[str, Any]:
        """What a checkpoint says of the network, besides the encoder."""
        width = self.decoder_channels
        if width == "auto":
            width = {"unet": 64, "deeplabv3plus": 256}[self.decoder]
        common = {"decoder": self.decoder, "decoder_channels": width}
        if self.decoder != "unet":
            return common
        return {**common, "encoder_stages": self.encoder_stages}

    @model_validator(mode="after")
    def _relabelling_has_a_teacher(self) -> Self:
        if self.teacher.relabel_from < 1 and self.teacher.decay == 0:
            raise ValueError(
                "teacher.relabel_from needs a teacher; set teacher.decay = 0.97, or "
                "teacher.relabel_from = 1 to go without"
            )
        return self

    @model_validator(mode="after")
    def _weights_positive(self) -> Self:
        if min(self.depth_weights) < 0 or sum(self.depth_weights) <= 0:
            raise ValueError("depth_weights must not be negative and not all zero")
        return self
