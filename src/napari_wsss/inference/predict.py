"""Labels and uncertainty from network output, and predictions of images in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.errors import ModelError
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.gate import GateGrid, allowed_by_presence
from napari_wsss.inference.labels import label_map
from napari_wsss.inference.region import Region
from napari_wsss.inference.source import Source, array_source
from napari_wsss.inference.tiles import Rect

__all__ = [
    "BlockPrediction",
    "entropy_region",
    "image_logits",
    "no_numbers",
    "predict_block",
    "uncertainty_map",
]


def uncertainty_map(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return (h, w): entropy of the network's probabilities over its largest value, 0 to 1.

    The probabilities are the softmax of (K, h, w) logits divided by `temperature`.

    Before the gate: removing classes makes the remaining ones look certain, and would print
    the gate's windows into the picture. Where a logit is no finite number, so is the result.
    """
    # With z = l - max l and Z the sum of exp z, the entropy is log Z - sum(z exp z) / Z.
    z = logits - logits.amax(0)
    if temperature != 1:
        z.div_(temperature)
    e = z.exp()
    total = e.sum(0)
    entropy = total.log().sub_(e.mul_(z).sum(0).div_(total))
    return entropy.div_(math.log(len(logits))).clamp_(0, 1)


def entropy_region(region: Region) -> Region:
    """Return a region whose one channel is `uncertainty_map` of the network's own output.

    Enlarged as the logits are, it is a sixteenth of the work for a network that answers at a
    quarter of the resolution.
    """
    return replace(region, logits=uncertainty_map(region.logits, region.temperature)[None])


def no_numbers(rect: Rect) -> ModelError:
    """Return the error for network output that is not finite."""
    return ModelError(
        f"The network gives no numbers (NaN or infinite) in the block at {rect}. The model is "
        "damaged or was trained badly."
    )


@dataclass(frozen=True)
class BlockPrediction:
    """What the network says of a block.

    Attributes
    ----------
    logits
        (K, h, w) before the gate.
    allowed
        (K, h, w) bool, the classes that the gate leaves; None without a gate.
    doubt
        (h, w), the uncertainty; that of `logits` if it is None.
    temperature
        Logits are divided by it before they become probabilities; it changes no label.
    """

    logits: NDArray[np.float32]
    allowed: NDArray[np.bool_] | None
    doubt: NDArray[np.float32] | None = None
    temperature: float = 1.0

    def gated(self, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return the logits with minus infinity for classes that are not allowed."""
        allowed = self.allowed if allowed is None else allowed
        return self.logits if allowed is None else np.where(allowed, self.logits, -np.inf)

    def labels(self, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Return (h, w) class indices; a class that is not allowed cannot win."""
        return label_map(torch.from_numpy(self.gated(allowed))).numpy()

    def probabilities(self) -> NDArray[np.float32]:
        """Return (K, h, w) class probabilities after the gate."""
        return torch.softmax(torch.from_numpy(self.gated()) / self.temperature, 0).numpy()

    def uncertainty(self) -> NDArray[np.float32]:
        """Return (h, w), as `uncertainty_map`."""
        if self.doubt is not None:
            return self.doubt
        return uncertainty_map(torch.from_numpy(self.logits), self.temperature).numpy()


def predict_block(
    engine: Engine, source: Source, rect: Rect, grid: GateGrid | None, side: int | None = None
) -> BlockPrediction:
    """Run the network on a block of an image.

    Parameters
    ----------
    engine, source
        The model and the image.
    rect
        The block, within the image.
    grid
        Windows of the gate; None for no gate.
    side
        Side of the blocks that `rect` is one of; by default it stands alone.

    Raises
    ------
    ModelError
        If the network gives no finite numbers.
    """
    margin = grid.margin_px(side or 1) if grid is not None else 0
    read = engine.tiles.reads(source.shape, rect, margin, side or max(rect.height, rect.width))
    (region,) = engine.run([source.read(*read)], [read], [rect])
    logits = region.crop(rect)
    allowed = None
    if grid is not None:
        how = engine.settings
        allowed = allowed_by_presence(region, grid, rect, how.gate_threshold, how.gate_windows)
        if not bool(torch.isfinite(region.presence).all()):
            raise no_numbers(rect)
    if not bool(torch.isfinite(logits).all()):
        raise no_numbers(rect)
    return BlockPrediction(
        logits.contiguous().cpu().numpy(),
        None if allowed is None else allowed.cpu().numpy(),
        entropy_region(region).crop(rect)[0].contiguous().cpu().numpy(),
        engine.temperature,
    )


def image_logits(engine: Engine, image: NDArray[np.uint8], patch_size_px: int) -> BlockPrediction:
    """Run the network on a whole image (H, W, 3) in memory, block by block.

    Returns
    -------
    BlockPrediction
        With the gate of windows of `patch_size_px`.
    """
    source = array_source(image)
    height, width = source.shape
    grid = GateGrid.of(patch_size_px, source.shape) if engine.settings.gate else None
    side = engine.settings.block_side(engine.model.upscale)
    k = len(engine.classes)
    logits = np.empty((k, height, width), np.float32)
    allowed = None if grid is None else np.empty((k, height, width), bool)
    doubt = np.empty((height, width), np.float32)
    for y in range(0, height, side):
        for x in range(0, width, side):
            rect = Rect(y, x, min(side, height - y), min(side, width - x))
            block = predict_block(engine, source, rect, grid, side)
            at = (slice(None), slice(y, y + rect.height), slice(x, x + rect.width))
            logits[at] = block.logits
            doubt[at[1:]] = block.uncertainty()
            if allowed is not None and block.allowed is not None:
                allowed[at] = block.allowed
    return BlockPrediction(logits, allowed, doubt, engine.temperature)
