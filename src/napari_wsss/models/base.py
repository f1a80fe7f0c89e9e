"""What classifier and segmenter have in common: input scale, dense output, and the gate."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.classes import ClassTable
from napari_wsss.models.encoder import Encoder
from napari_wsss.models.info import ModelInfo

__all__ = ["DenseOutput", "WsssModel"]


class DenseOutput(NamedTuple):
    """Result of a fully convolutional pass over images of (H, W) pixels.

    Attributes
    ----------
    logits
        (N, K, H, W) class logits per pixel.
    presence
        (N, K, h, w) logits whose mean over a window says whether a class is in it.
    """

    logits: Tensor
    presence: Tensor


class WsssModel(nn.Module):
    """Base class of `Classifier` and `Segmenter`.

    Parameters
    ----------
    info
        Everything a checkpoint says of the model.
    load_weights
        Whether to load the encoder's pretrained weights.
    """

    #: Metrics of every epoch, set by training; empty for a loaded model.
    history: list[dict[str, float]]
    def __init__(self, info: ModelInfo, *, load_weights: bool = True):
        super().__init__()
        self.info = info
        self.encoder = Encoder(info.encoder, load_weights=load_weights)
        self.upscale = info.upscale
        self.history = []

    @property
    def classes(self) -> ClassTable:
        """The classes in the order of the outputs."""
        return self.info.class_table

    @property
    def mpp(self) -> float | None:
        """µm/px that the model was trained at; None if it was not known."""
        return self.info.mpp

    @property
    def alignment_px(self) -> int:
        """Tiles must begin at multiples of this many input pixels to be exact."""
        stride = Fraction(max(self.encoder.reductions)) / Fraction(self.upscale).limit_denominator(64)
        return stride.numerator

    def scaled(self, x: Tensor) -> Tensor:
        """Enlarge images (N, 3, H, W) by the model's `upscale`."""
        if self.upscale == 1.0:
            return x
        return F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)

    def dense(self, x: Tensor) -> DenseOutput:
        """Turn images (N, 3, H, W) with values 0 to 1 into a `DenseOutput`."""
        raise NotImplementedError
