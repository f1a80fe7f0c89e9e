"""One settings model per stage: defaults, bounds and the sentence that explains each field.

Panel forms, ``--help``, TOML files and checkpoint headers are made from these models, so
a field is described here and nowhere else. Unknown names are refused, because a misspelt
setting that is silently ignored costs a training run.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_wsss.errors import SettingsError, listed

__all__ = [
    "AugmentationSettings",
    "ClassifierSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "InferenceSettings",
    "NoiseSettings",
    "OptimiserSettings",
    "PDASettings",
    "PretrainEncoderSettings",
    "PretrainSettings",
    "PseudoMaskSettings",
    "SegmenterSettings",
    "Settings",
    "ViewSettings",
]


class Settings(BaseModel):
    """Base class: frozen, no unknown fields, readable from TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "settings") -> Self:
        """Validate `data`; SettingsError names every field that does not fit."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            rows = [
                f"{'.'.join(str(part) for part in e['loc']) or 'settings'}: {e['msg']}"
                for e in error.errors()
            ]
            raise SettingsError(f"{where} not valid:{listed(rows)}") from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file; SettingsError if it is missing, malformed or out of bounds."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"There is no settings file {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
        return cls.from_dict(data, str(path))

    def changed(self, **values: Any) -> Self:
        """Return a copy with `values` replaced, validated anew; None leaves a field as it is."""
        given = {k: v for k, v in values.items() if v is not None}
        return type(self).from_dict({**self.model_dump(), **given})


class EncoderSettings(Settings):
    """The encoder that classifier and segmenter share."""

    name: str = Field(
        "tf_efficientnet_lite0",
        description="Any timm encoder by name, 'hf-hub:...' where there is internet, or "
        "'resnet38d' as in the paper.",
    )
    weights: str = Field(
        "packaged",
        description="'packaged' (ImageNet weights installed from PyPI), 'pretrained' (timm "
        "downloads them), 'random', or a local .safetensors or .pth file.",
    )
    output_stride: Literal[8, 16, 32] = Field(
        16, description="Pixels of network input per pixel of the deepest features."
    )
    upscale: Literal["auto"] | Annotated[float, Field(ge=0.25, le=8)] = Field(
        "auto",
        description="Patches are enlarged by this factor inside the network; 'auto' takes 1.5 "
        "for patches under 160 px and 3 under 80 px.",
    )

    def resolved(self, patch_size_px: int) -> Self:
        """Return these settings with `upscale` as a number, for patches of this side."""
        if self.upscale != "auto":
            return self
        factor = 1.0 if patch_size_px >= 160 else 1.5 if patch_size_px >= 80 else 3.0
        return self.changed(upscale=factor)


class OptimiserSettings(Settings):
    """Optimiser and schedule."""

    name: Literal["adamw", "sgd"] = Field("adamw", description="Optimiser.")
    encoder_lr: float = Field(3e-4, gt=0, le=1, description="Learning rate of the encoder.")
    head_lr: float = Field(3e-3, gt=0, le=1, description="Learning rate of new layers.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Weight decay.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum (SGD only).")
    schedule: Literal["cosine", "poly"] = Field("cosine", description="Learning-rate schedule.")
    power: float = Field(0.9, gt=0, le=5, description="Power of the poly schedule.")
    warmup: float = Field(0.05, ge=0, le=0.5, description="Share of the steps spent warming up.")
    clip_norm: float = Field(5.0, gt=0, description="Largest norm of the gradient.")
    freeze_batch_norm: bool = Field(
        True, description="Keep the encoder's batch-norm statistics (small batches need it)."
    )


class AugmentationSettings(Settings):
    """Random changes of training patches, done on tensors."""

    flips: bool = Field(True, description="Random flips and quarter turns.")
    stain: float = Field(
        0.15, ge=0, le=1, description="Strength of haematoxylin-eosin jitter (0 is off)."
    )
    color: float = Field(
        0.15, ge=0, le=1, description="Strength of brightness and contrast jitter (0 is off)."
    )


class PDASettings(Settings):
    """Progressive Dropout Attention (Han et al. 2022, section 3.1)."""

    enabled: bool = Field(True, description="Drop the most discriminative part of each CAM.")
    warmup_epochs: int = Field(3, ge=0, description="Epochs before it begins (mu stays 1).")
    sigma: float = Field(0.985, gt=0, le=1, description="Factor on mu per epoch after that.")
    lower: float = Field(0.65, gt=0, le=1, description="Smallest mu.")


class _TrainingSettings(Settings):
    """What both phases share."""

    encoder: EncoderSettings = Field(EncoderSettings(), description="The encoder.")
    optimiser: OptimiserSettings = Field(OptimiserSettings(), description="The optimiser.")
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="Augmentation of training patches."
    )
    epochs: int = Field(12, ge=1, le=10_000, description="Rounds of training and validation.")
    steps_per_epoch: int = Field(
        25, ge=0, description="Batches per epoch; 0 takes as many as the patches fill."
    )
    batch_size: int = Field(16, ge=1, le=1024, description="Patches per step.")
    validation_share: float = Field(
        0.15,
        ge=0,
        lt=1,
        description="Share of the groups (images) held out when the set has no validation split.",
    )
    validation_most: int = Field(
        256, ge=1, description="Held-out patches looked at after each epoch, evenly chosen."
    )
    balance: float = Field(
        0.5,
        ge=0,
        le=1,
        description="How far rare classes are drawn more often: 0 as they are, 1 equally.",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of every random choice.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="'auto' takes bf16 where the processor or GPU computes in it."
    )


#: Channels that the joint head reduces each depth to.
JOINT_WIDTH = 64


class ClassifierSettings(_TrainingSettings):
    """Phase 1: the multi-label classifier whose CAMs become pseudo masks."""

    depths: tuple[int, ...] = Field(
        (-3, -2, -1),
        min_length=1,
        description="Encoder stages that give maps, shallow to deep; -1 is the deepest.",
    )
    deep_supervision: bool = Field(
        False, description="Train a class head at every depth (needed for 'heads' maps)."
    )
    joint_head: bool = Field(
        False,
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
    pda: PDASettings = Field(PDASettings(), description="Progressive Dropout Attention.")
    patience: int = Field(
        8, ge=1, description="Stop after so many epochs without a better validation score."
    )

    @property
    def architecture(self) -> dict[str, Any]:
        """What a checkpoint says of the network, besides the encoder."""
        common = {"depths": list(self.depths), "deep_supervision": self.deep_supervision}
        # Left out where there is none, so that headers stay what they were.
        return {**common, "joint_head": JOINT_WIDTH} if self.joint_head else common


class ViewSettings(Settings):
    """How the random views of a tile differ, which pretraining asks the encoder to match."""

    crop: float = Field(
        0.3, ge=0.05, le=1, description="Smallest share of a tile's area that a view shows."
    )
    stain: float = Field(
        0.3, ge=0, le=1, description="Strength of haematoxylin-eosin jitter (0 is off)."
    )
    color: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Strength of brightness, contrast and saturation jitter (0 is off).",
    )
    grey: float = Field(0.1, ge=0, le=1, description="Share of the views without colour.")
    blur: float = Field(0.3, ge=0, le=1, description="Share of the views that are blurred.")


class PretrainEncoderSettings(EncoderSettings):
    """The encoder while it is pretrained: its weights serve at any stride and scale."""

    output_stride: Literal[8, 16, 32] = Field(
        32,
        description="Pixels of network input per pixel of the deepest features; 32 is the "
        "quickest, and phase 1 can take another.",
    )
    upscale: Literal["auto"] | Annotated[float, Field(ge=0.25, le=8)] = Field(
        1.0, description="Views are this many times as large as the tiles they show."
    )


class PretrainSettings(Settings):
    """Before phase 1: the encoder on tiles without labels."""

    method: Literal["simclr", "byol", "patches"] = Field(
        "simclr",
        description="'simclr' tells the tiles of a batch apart; 'byol' needs no other tiles and "
        "copes with small batches; 'patches' tells the cells within tiles apart.",
    )
    tile_px: int = Field(
        112, ge=32, le=1024, description="Side of a tile (px): as large as the labelled patches."
    )
    tile_mpp: Literal["auto"] | Annotated[float, Field(ge=0.05, le=20)] = Field(
        "auto",
        description="µm/px of the tiles: that of the labelled patches. 'auto' takes 0.5 from "
        "slides that say theirs, and images as they are.",
    )
    tiles: int = Field(
        4000, ge=2, le=1_000_000, description="Tiles used at most, chosen at random."
    )
    min_tissue: float = Field(
        0.5, ge=0, le=1, description="Share of a tile that tissue must cover."
    )
    epochs: int = Field(10, ge=1, le=10_000, description="Rounds of training.")
    steps_per_epoch: int = Field(
        25, ge=0, description="Batches per epoch; 0 takes as many as the tiles fill."
    )
    batch_size: int = Field(
        32,
        ge=2,
        le=4096,
        description="Tiles per step; the others of a batch are what a tile is "
        "told apart from, so 1 is not possible.",
    )
    temperature: float = Field(
        0.2, gt=0, le=5, description="Of the contrast: lower looks at similar tiles more."
    )
    projection: int = Field(128, ge=2, le=4096, description="Numbers per view that are compared.")
    target_momentum: float = Field(
        0.99, ge=0, lt=1, description="How slowly the second network of 'byol' follows."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of every random choice.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "fp32",
        description="'auto' takes bf16 where the processor or GPU computes in it, which is "
        "quicker on a GPU only.",
    )
    encoder: PretrainEncoderSettings = Field(
        PretrainEncoderSettings(), description="The encoder to begin with."
    )
    views: ViewSettings = Field(ViewSettings(), description="The views of a tile.")
    optimiser: OptimiserSettings = Field(
        OptimiserSettings(),
        description="The optimiser; from 'random' weights set freeze_batch_norm = false.",
    )


class PseudoMaskSettings(Settings):
    """How maps become pseudo masks."""

    method: Literal["gradcam", "heads", "joint"] = Field(
        "gradcam",
        description="'gradcam' at every depth, the class 'heads' of every depth, or the 'joint' "
        "head of all depths, which gives one mask.",
    )
    flips: bool = Field(False, description="Average the maps over the four flips.")
    scales: tuple[Annotated[float, Field(ge=0.25, le=4)], ...] = Field(
        (1.0,),
        min_length=1,
        description="Average the maps over the patch enlarged or reduced by these factors.",
    )
    overlaps: bool = Field(
        False,
        description="Where patches overlap, a pixel can only have classes that all of them have. "
        "Places are read from names that end in '_y00056_x00112', as 'patches from-masks' writes "
        "them.",
    )
    refine_px: int = Field(
        0,
        ge=0,
        le=64,
        description="Borders of the maps follow those of the image within so many pixels (guided "
        "filter); 0 is off.",
    )
    certainty: float = Field(
        0.0,
        ge=0,
        le=1,
        description="In patches of several classes, pixels less certain than this stay without a "
        "class: by the share of depths that agree with the deepest or, of the joint head, by the "
        "probability among the label's classes; 0 keeps all.",
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
        0.0,
        ge=0,
        lt=1,
        description="Share of the average that stays at each step (0.99); what is kept in the "
        "end is the average. 0 is off.",
    )
    relabel_from: float = Field(
        1.0,
        ge=0,
        le=1,
        description="From this share of the epochs on, patches of several classes are learnt "
        "from the teacher's labels, restricted to their classes, instead of pseudo masks; 1 is "
        "never.",
    )
    unreliable: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of those pixels, the teacher's most uncertain ones by entropy, that "
        "teach no class at first; it falls to 0 over the epochs.",
    )
    align: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How far the teacher's probabilities are corrected so that the classes of a "
        "patch cover equal parts of it on average over patches: 0 not, 1 wholly. Without it a "
        "class whose maps are broad takes more and more.",
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


class SegmenterSettings(_TrainingSettings):
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
    depth_weights: tuple[float, ...] = Field(
        (0.2, 0.2, 0.6),
        min_length=1,
        description="Weight of the loss of each depth's pseudo masks, shallow to deep.",
    )
    gate_weight: float = Field(
        0.2, ge=0, le=10, description="Weight of the patch-label loss that trains the gate head."
    )

    noise: NoiseSettings = Field(NoiseSettings(), description="Pseudo masks that may be wrong.")
    mosaic_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the patches with one label that are put together with another such "
        "patch, so that borders are learnt whose place is known.",
    )
    teacher: TeacherSettings = Field(TeacherSettings(), description="The average of the weights.")
    choose_by: Literal["targets", "labels", "last"] = Field(
        "targets",
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
            raise ValueError("teacher.relabel_from needs a teacher; set teacher.decay = 0.99")
        return self

    @model_validator(mode="after")
    def _weights_positive(self) -> Self:
        if min(self.depth_weights) < 0 or sum(self.depth_weights) <= 0:
            raise ValueError("depth_weights must not be negative and not all zero")
        return self


class InferenceSettings(Settings):
    """Segmenting a slide, block by block."""

    block_px: Literal["auto"] | Annotated[int, Field(ge=64, le=16384)] = Field(
        "auto",
        description="Side of one block of output; slides round it to whole chunks of 512 px. "
        "'auto' takes 2048, less for networks that enlarge what they see.",
    )
    tile_px: int = Field(
        512,
        ge=64,
        le=4096,
        description="Side of the fixed tiles of networks that are not exact under tiling.",
    )
    tile_overlap: float = Field(
        0.25, ge=0, lt=1, description="Overlap of those tiles, as a share of their side."
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        "auto",
        description="Blocks (or such tiles) per forward pass; 'auto' takes 1 on a processor, "
        "which one block keeps busy, and 2 on a GPU. Halved by itself if memory runs out.",
    )
    gate: bool = Field(True, description="Remove classes that the gate head finds absent.")
    gate_threshold: float = Field(
        0.1, ge=0, le=1, description="Classes at or below this probability are absent."
    )
    tissue_only: bool = Field(True, description="Skip blocks without tissue; label 0 outside.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="'auto' takes bf16 where the processor or GPU computes in it."
    )
    unreadable: Literal["stop", "mark"] = Field(
        "stop",
        description="What a part of the slide that cannot be decoded does: 'stop' the run, which "
        "can be resumed, or 'mark' its block as not computed and go on.",
    )
    readers: int = Field(
        2, ge=1, le=64, description="Threads that decode blocks ahead of the network."
    )

    def block_side(self, upscale: float) -> int:
        """Return `block_px` in numbers, for a network that enlarges its input by `upscale`."""
        if self.block_px != "auto":
            return self.block_px
        # Whole chunks of results; enlarged they shall take about the same memory.
        return max(1, round(2048 / upscale / 512)) * 512


class EvaluationSettings(Settings):
    """Measuring a model on images with masks."""

    min_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Oracle labels: a class is present in a window of which it covers this "
        "share; 0 is any pixel.",
    )
    bootstrap: int = Field(1000, ge=0, le=100_000, description="Resamples of images.")
    flips: bool = Field(False, description="Average predictions over the four flips.")
    seed: int = Field(0, ge=0, description="Seed of the bootstrap.")
