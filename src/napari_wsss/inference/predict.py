"""Labels and uncertainty of one block, and of whole images in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.inference.engine import Engine
from napari_wsss.inference.gate import GateGrid, allowed_by_presence
from napari_wsss.inference.source import Source, array_source

__all__ = ["BlockPrediction", "image_logits", "predict_block"]


@dataclass(frozen=True)
class BlockPrediction:
    """What the network says of a block.

    Attributes
    ----------
    logits
        (K, h, w) before the gate.
    allowed
        (K, h, w) bool, the classes that the gate leaves; None without a gate.
    """

    logits: NDArray[np.float32]
    allowed: NDArray[np.bool_] | None

    def gated(self, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.float32]:
        """Return the logits with minus infinity for classes that are not allowed."""
        allowed = self.allowed if allowed is None else allowed
        return self.logits if allowed is None else np.where(allowed, self.logits, -np.inf)

    def labels(self, allowed: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Return (h, w) class indices; a class that is not allowed cannot win."""
        return self.gated(allowed).argmax(0).astype(np.uint8)

    def probabilities(self) -> NDArray[np.float32]:
        """Return (K, h, w) class probabilities after the gate."""
        return torch.softmax(torch.from_numpy(self.gated()), 0).numpy()

    def uncertainty(self) -> NDArray[np.float32]:
        """Return (h, w): entropy of the network's probabilities over its largest value, 0 to 1.

        Before the gate: removing classes makes the remaining ones look certain, and would
        print the gate's windows into the picture.
        """
        p = torch.softmax(torch.from_numpy(self.logits), 0)
        entropy = -torch.special.xlogy(p, p).sum(0)
        return (entropy / math.log(len(self.logits))).clamp(0, 1).numpy()


def predict_block(
    engine: Engine,
    source: Source,
    y: int,
    x: int,
    height: int,
    width: int,
    grid: GateGrid | None,
) -> BlockPrediction:
    """Run the network on a block of an image.

    Parameters
    ----------
    engine, source
        The model and the image.
    y, x, height, width
        The block, within the image.
    grid
        Windows of the gate; None for no gate.
    """
    margin = grid.margin_px if grid is not None else 0
    y0, x0 = max(0, y - margin), max(0, x - margin)
    y1 = min(source.shape[0], y + height + margin)
    x1 = min(source.shape[1], x + width + margin)
    region = engine.run(source, y0, x0, y1 - y0, x1 - x0)
    top, left = y - region.y, x - region.x
    allowed = None
    if grid is not None:
        allowed = allowed_by_presence(
            region, grid, y, x, height, width, engine.settings.gate_threshold
        )
    logits = region.logits[:, top : top + height, left : left + width]
    return BlockPrediction(logits.numpy(), allowed)


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
    side = engine.settings.block_px
    k = len(engine.classes)
    logits = np.empty((k, height, width), np.float32)
    allowed = None if grid is None else np.empty((k, height, width), bool)
    for y in range(0, height, side):
        for x in range(0, width, side):
            h, w = min(side, height - y), min(side, width - x)
            block = predict_block(engine, source, y, x, h, w, grid)
            logits[:, y : y + h, x : x + w] = block.logits
            if allowed is not None and block.allowed is not None:
                allowed[:, y : y + h, x : x + w] = block.allowed
    return BlockPrediction(logits, allowed)
