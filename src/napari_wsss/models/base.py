"""What classifier and segmenter have in common: input scale, dense output, and the gate."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.classes import ClassTable
from napari_wsss.errors import ModelError
from napari_wsss.models.encoder import Encoder
from napari_wsss.models.info import ModelInfo

__all__ = ["DenseOutput", "ReducedOutput", "Trainable", "Window", "WsssModel", "check_resolution"]

#: Images within this factor of the model's µm/px look alike to it.
_MPP_TOLERANCE = 1.1


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


class Window(NamedTuple):
    """A part of an image, in pixels."""

    y: int
    x: int
    height: int
    width: int


class ReducedOutput(NamedTuple):
    """A `DenseOutput` before its logits are enlarged to the size of the image.

    Attributes
    ----------
    logits
        (N, K, h, w), a part of a map that covers the whole image.
    origin
        (y, x) of the part's first pixel in that map.
    size
        (H, W) of that map.
    presence
        As in `DenseOutput`, of the whole image.
    """

    logits: Tensor
    origin: tuple[int, int]
    size: tuple[int, int]
    presence: Tensor


class Trainable(nn.Module):
    """What the training loop asks of a network.

    Attributes
    ----------
    encoder
        Its rate of learning, and its batch norms, have settings of their own.
    info
        Header of the file that will be written; its ``metrics`` are set by training.
    history
        Metrics of every epoch, set by training; empty for a loaded model.
    """

    encoder: Encoder
    info: Any
    history: list[dict[str, float]]


class WsssModel(Trainable):
    """Base class of `Classifier` and `Segmenter`.

    Parameters
    ----------
    info
        Everything a checkpoint says of the model.
    load_weights
        Whether to load the encoder's pretrained weights.
    """

    info: ModelInfo

    def __init__(self, info: ModelInfo, *, load_weights: bool = True):
        super().__init__()
        stages = info.architecture.get("encoder_stages")
        self.encoder = Encoder(
            info.encoder,
            load_weights=load_weights,
            stages=None if stages is None else int(stages),
        )
        if info.mean is None or info.std is None:
            mean, std = self.encoder.normalisation
            info = info.model_copy(update={"mean": mean, "std": std})
        else:
            self.encoder.normalise_by(info.mean, info.std)
        self.info = info
        self.upscale = info.upscale
        # As a fraction, so that sizes come out whole where they should (1.15 * 20 is not 23).
        self._ratio = Fraction(self.upscale).limit_denominator(64)
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
        return (max(self.encoder.reductions) / self._ratio).numerator

    def scaled(self, x: Tensor) -> Tensor:
        """Enlarge images (N, 3, H, W) by the model's `upscale`."""
        if self._ratio == 1:
            return x
        if not x.is_floating_point():
            x = x.float()
        size = [max(1, round(side * self._ratio)) for side in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", align_corners=False)

    def dense(self, x: Tensor) -> DenseOutput:
        """Turn images (N, 3, H, W) with values 0 to 1 into a `DenseOutput`."""
        raise NotImplementedError

    def reduced(self, x: Tensor, keep: Window | None = None) -> ReducedOutput:
        """Return what `dense` enlarges, for images (N, 3, H, W).

        Parameters
        ----------
        x
            As for `dense`.
        keep
            The part whose logits are wanted; what only serves the rest may be left out.
        """
        out = self.dense(x)
        height, width = out.logits.shape[-2:]
        return ReducedOutput(out.logits, (0, 0), (height, width), out.presence)


def check_resolution(model: WsssModel, mpp: float | None) -> None:
    """Raise ModelError if images of `mpp` µm/px are not what `model` was trained on.

    Unknown resolutions, of either, are not compared.
    """
    if mpp is None or model.mpp is None:
        return
    if not 1 / _MPP_TOLERANCE <= mpp / model.mpp <= _MPP_TOLERANCE:
        raise ModelError(
            f"The model was trained at {model.mpp:g} µm/px; these patches have {mpp:g} µm/px. "
            "Use patches of the model's resolution, or train a model at theirs."
        )
