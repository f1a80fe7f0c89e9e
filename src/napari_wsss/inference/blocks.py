"""The plan of a slide: its grid at the model's resolution, and the blocks with tissue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import MissingResolutionError, ModelError
from napari_wsss.inference.source import Source, slide_source
from napari_wsss.inference.tiles import Rect
from napari_wsss.models import WsssModel
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import ResampledSlide, Slide, TissueMask, tissue_mask

__all__ = ["CHUNK_PX", "Block", "SlidePlan", "nearest_first"]

#: Chunks of stored results; viewers are quickest with 256 to 512.
CHUNK_PX = 512


@dataclass(frozen=True)
class Block:
    """A rectangle of the result; `tissue` says whether the network must run there."""

    rect: Rect
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
        tissue: TissueMask | None = None,
    ) -> SlidePlan:
        """Plan `slide` for `model`; its tissue is looked for unless it is given.

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
        side = max(1, round(settings.block_side(model.upscale) / CHUNK_PX)) * CHUNK_PX
        if settings.tissue_only:
            tissue = tissue or tissue_mask(slide)
        return cls(ResampledSlide(slide, mpp), tissue, side)

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
                rect = Rect(y, x, min(self.side, height - y), min(self.side, width - x))
                yield Block(rect, self._any_tissue(rect))

    def tissue_in(self, rect: Rect) -> NDArray[np.bool_]:
        """Return (height, width): where the result's pixels are tissue."""
        if self.tissue is None:
            return np.ones((rect.height, rect.width), bool)
        return self.tissue.sample(*rect, sum(self.grid.downsample) / 2)

    def _any_tissue(self, rect: Rect) -> bool:
        if self.tissue is None:
            return True
        # By the pixels of the mask: sampling it at those of every block would take seconds
        # before the first is computed.
        step = sum(self.grid.downsample) / 2
        corners = rect.y, rect.x, rect.y + rect.height, rect.x + rect.width
        return self.tissue.any_in(*(c * step for c in corners))


def nearest_first(
    blocks: Sequence[Block], view: Callable[[], tuple[float, float] | None] | None
) -> Iterator[Block]:
    """Yield the blocks, always the one next that lies nearest to where the user looks.

    Parameters
    ----------
    blocks
        In the order to keep while there is no view.
    view
        Called before each: (y, x) of the middle of the view, in pixels of the result, or None.
    """
    if view is None:
        yield from blocks
        return
    left = dict(enumerate(blocks))
    while left:
        place = view()
        if place is None:
            chosen = next(iter(left))
        else:
            y, x = place
            chosen = min(left, key=lambda i: _distance(left[i].rect, y, x))
        yield left.pop(chosen)


def _distance(rect: Rect, y: float, x: float) -> float:
    return (rect.y + rect.height / 2 - y) ** 2 + (rect.x + rect.width / 2 - x) ** 2
