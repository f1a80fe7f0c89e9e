"""Slides block by block, and measuring a model."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from napari_wsss.settings.base import Settings

__all__ = ["EvaluationSettings", "InferenceSettings"]


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
        0.2,
        ge=0,
        le=1,
        description="Classes of at most this probability are absent, by the windows over a pixel.",
    )
    gate_windows: Literal["mean", "any"] = Field(
        "mean",
        description="What of the windows over a pixel must be above the threshold: the 'mean' of "
        "what they say, as a class that the pixel is of lies in all of them, or 'any' of them. "
        "The published gate asks one window per pixel, at a threshold of 0.1.",
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
