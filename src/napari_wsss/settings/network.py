"""The encoder, and how networks are trained: what the stages of training share."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field

from napari_wsss.settings.base import Settings

__all__ = [
    "AugmentationSettings",
    "EncoderSettings",
    "OptimiserSettings",
    "TrainingSettings",
]


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


class TrainingSettings(Settings):
    """What both phases share."""

    encoder: EncoderSettings = Field(EncoderSettings(), description="The encoder.")
    optimiser: OptimiserSettings = Field(OptimiserSettings(), description="The optimiser.")
    augmentation: AugmentationSettings = Field(
        AugmentationSettings(), description="Augmentation of training patches."
    )
    epochs: int = Field(12, ge=1, le=10_000, description="Rounds of training and validation.")
    steps_per_epoch: Literal["auto"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="Batches per epoch; 0 takes as many as the patches fill, 'auto' a quarter of "
        "that, but 13 at least and 25 at most: few patches are soon known by heart.",
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

    def steps(self, patches: int) -> int:
        """Return `steps_per_epoch` as a number, for so many patches to learn from.

        With the default 12 epochs 'auto' goes three times through a thousand patches. Twice as
        many steps were worse there, and better with five times the patches
        (benchmarks/accuracy.md).
        """
        if self.steps_per_epoch == "auto":
            return max(13, min(25, round(patches / (4 * self.batch_size))))
        return self.steps_per_epoch or -(-patches // self.batch_size)
