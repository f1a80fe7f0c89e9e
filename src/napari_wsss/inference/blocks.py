"""The plan of a slide: its grid at the model's resolution, and the blocks with tissue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import MissingResolutionError, ModelError
from napari_wsss.inference.source import Source, slide_source
from napari_wsss.models import WsssModel
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import ResampledSlide, Slide, TissueMask, tissue_mask

__all__ = ["CHUNK_PX", "Block", "SlidePlan"]

#: Chunks of stored results; viewers are quickest with 256 to 512.
CHUNK_PX = 512


@dataclass(frozen=True)
class Block:
    """A rectangle of the result; `tissue` says whether the network must run there."""

    y: int
    x: int
    height: int
    width: int
    tissue: bool


@dataclass(frozen=True)
class SlidePlan:
    """How a slide is going to be worked through.

    Attributes
    ----------
    grid
        The slide at the model's µm/px.
    tissue
        Where tissue is; None if everything counts as tissue.
    side
        Side of a block in pixels, whole chunks.
    """

    grid: ResampledSlide
    tissue: TissueMask | None
    side: int

    @classmethod
    def of(
        cls,
        slide: Slide,
        model: WsssModel,
        settings: InferenceSettings,
        model_mpp: float | None,
    ) -> SlidePlan:
        """Plan `slide` for `model`.

        Raises
        ------
        MissingResolutionError
            If the µm/px of slide or model is not known.
        """
        mpp = model_mpp if model_mpp is not None else model.mpp
        if model_mpp is not None and model.mpp not in (None, model_mpp):
            raise ModelError(
                f"The model was trained at {model.mpp:g} µm/px and cannot be run at "
                f"{model_mpp:g}. Leave out --model-mpp."
            )
        if mpp is None:
            raise MissingResolutionError(
                "The model does not say at how many µm/px it was trained, because its patches "
                "did not. Give it: --model-mpp on the command line, or model_mpp=."
            )
        slide.require_mpp()
        side = max(1, round(settings.block_px / CHUNK_PX)) * CHUNK_PX
        return cls(
            ResampledSlide(slide, mpp), tissue_mask(slide) if settings.tissue_only else None, side
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the result."""
        return self.grid.shape

    @property
    def source(self) -> Source:
        """The slide's pixels on the result's grid."""
        return slide_source(self.grid)

    @property
    def translation_px(self) -> tuple[float, float]:
        """Centre of the first result pixel relative to that of the slide's, in result pixels."""
        dy, dx = self.grid.downsample
        return (dy - 1) / 2 / dy, (dx - 1) / 2 / dx

    def blocks(self) -> Iterator[Block]:
        """Yield the blocks row by row."""
        height, width = self.shape
        for y in range(0, height, self.side):
            for x in range(0, width, self.side):
                h, w = min(self.side, height - y), min(self.side, width - x)
                yield Block(y, x, h, w, bool(self.tissue_in(y, x, h, w).any()))

    def tissue_in(self, y: int, x: int, height: int, width: int) -> NDArray[np.bool_]:
        """Return (height, width): where the result's pixels are tissue."""
        if self.tissue is None:
            return np.ones((height, width), bool)
        return self.tissue.sample(y, x, height, width, sum(self.grid.downsample) / 2)
