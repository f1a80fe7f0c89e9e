"""Before phase 1: the encoder on tissue without labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_wsss.settings.base import Settings
from napari_wsss.settings.network import EncoderSettings, OptimiserSettings

__all__ = ["PretrainEncoderSettings", "PretrainSettings", "ViewSettings"]


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
