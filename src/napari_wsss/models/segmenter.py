"""Phase 2's network: encoder, decoder, and a class head on the same encoder for the gate."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from napari_wsss.errors import ModelError
from napari_wsss.models.base import DenseOutput, ReducedOutput, Window, WsssModel
from napari_wsss.models.info import ModelInfo

__all__ = ["Segmenter"]


class Segmenter(WsssModel):
    """Segmentation network with a classification head.

    ``info.architecture`` holds ``decoder`` (``"unet"`` or ``"deeplabv3plus"``),
    ``decoder_channels`` and ``encoder_stages`` (all where it is missing), and ``gate_bias`` if
    the gate's logits have offsets. The U-Net decodes to
    a quarter of the input's resolution, which is finer than tissue borders are known, and
    enlarges the logits. DeepLabV3+ pools over the whole input, so its result depends on the
    tile.
    """

    def __init__(self, info: ModelInfo, *, load_weights: bool = True):
        super().__init__(info, load_weights=load_weights)
        k = len(info.class_table)
        kind = info.architecture.get("decoder", "unet")
        width = int(info.architecture.get("decoder_channels", 128))
        self._divisible = kind == "deeplabv3plus"
        if kind == "unet":
            self.decoder, out = self._unet(width)
        elif kind == "deeplabv3plus":
            self.decoder, out = self._deeplab(width)
        else:
            raise ModelError(f"There is no decoder {kind!r}; use 'unet' or 'deeplabv3plus'.")
        self.classifier = nn.Conv2d(out, k, 1)
        # Only one that was fitted to labels has offsets.
        offsets = bool(info.architecture.get("gate_bias", False))
        self.gate = nn.Conv2d(self.encoder.channels[-1], k, 1, bias=offsets)
        nn.init.normal_(self.gate.weight, std=0.01)

    def _unet(self, width: int) -> tuple[nn.Module, int]:
        self._stages = [i for i, r in enumerate(self.encoder.reductions) if r >= 4]
        if len(self._stages) < 2:
            raise ModelError(
                "A U-Net needs at least two encoder stages of stride 4 or more; these of "
                f"{self.encoder.settings.name!r} have strides {self.encoder.reductions}. Raise "
                "encoder_stages."
            )
        channels = [3, *(self.encoder.channels[i] for i in self._stages)]
        widths = [width, *[max(width // 2, 16)] * 4][: len(self._stages) - 1]
        decoder = UnetDecoder(
            channels, widths, n_blocks=len(widths), interpolation_mode="bilinear"
        )
        return decoder, widths[-1]

    def _deeplab(self, width: int) -> tuple[nn.Module, int]:
        stride = self.encoder.settings.output_stride
        reductions = self.encoder.reductions
        if stride not in (8, 16) or len(reductions) != 5 or reductions[1] != 4:
            raise ModelError(
                "DeepLabV3+ needs an encoder of five stages at output stride 8 or 16; "
                f"{self.encoder.settings.name!r} has strides {reductions}. Use 'unet', or set "
                "encoder.output_stride = 16."
            )
        self._stages = list(range(5))
        decoder = DeepLabV3PlusDecoder(
            [3, *self.encoder.channels],
            encoder_depth=5,
            out_channels=width,
            atrous_rates=(6, 12, 18) if stride == 16 else (12, 24, 36),
            output_stride=stride,
            aspp_separable=True,
            aspp_dropout=0.5,
        )
        return decoder, width

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pixel logits (N, K, H, W) and gate logits (N, K) of images (N, 3, H, W)."""
        out = self.dense(x)
        return out.logits, out.presence.float().mean((2, 3))

    def dense(self, x: Tensor) -> DenseOutput:
        """Return pixel logits at input size and the gate's map."""
        out = self.reduced(x)
        logits = F.interpolate(out.logits, x.shape[-2:], mode="bilinear", align_corners=False)
        return DenseOutput(logits, out.presence)

    def reduced(self, x: Tensor, keep: Window | None = None) -> ReducedOutput:
        """Return pixel logits before they are enlarged, and the gate's map.

        The deep features see far, so a tile has a wide halo; the decoder of a U-Net sees a
        few pixels. For `keep` it decodes no more than that: the halo costs the encoder only.
        """
        large = self.scaled(x)
        if self._divisible:
            return self._deeplab_logits(large)
        stages = self.encoder(large)
        features = [stages[i] for i in self._stages]
        if keep is None or any(side % self.alignment_px for side in x.shape[-2:]):
            decoded, origin = self.decoder([large, *features]), (0, 0)
        else:
            decoded, origin = self._decoded(features, keep)
        height, width = features[0].shape[-2:]
        logits = self.classifier(decoded).float()
        return ReducedOutput(logits, origin, (height, width), self.gate(stages[-1]))

    def _deeplab_logits(self, large: Tensor) -> ReducedOutput:
        # Its skip connection needs sizes that the stride divides.
        height, width = large.shape[-2:]
        step = max(self.encoder.reductions)
        large = F.pad(large, (0, -width % step, 0, -height % step), mode="replicate")
        stages = self.encoder(large)
        decoded = self.decoder([large, *(stages[i] for i in self._stages)])
        logits = self.classifier(decoded).float()
        logits = F.interpolate(logits, large.shape[-2:], mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
        return ReducedOutput(logits, (0, 0), (height, width), self.gate(stages[-1]))

    def _decoded(self, features: list[Tensor], keep: Window) -> tuple[Tensor, tuple[int, int]]:
        """Return the U-Net's decoded features where `keep` needs them, and where they begin.

        Parameters
        ----------
        features
            Of the whole image, shallow to deep; their sizes divide each other.
        keep
            In pixels of the image.
        """
        strides = [self.encoder.reductions[i] for i in self._stages]
        ends = [side * strides[-1] for side in features[-1].shape[-2:]]
        spans = [
            (math.floor(start * self._ratio), math.ceil((start + count) * self._ratio))
            for start, count in ((keep.y, keep.height), (keep.x, keep.width))
        ]
        # Enlarging looks one pixel around, and is done in whole periods of map and image. The
        # enlarging in a block makes one pixel wrong at the rim of what it is given, its two
        # convolutions two more.
        around = ((self._ratio / strides[0]).numerator + 1) * strides[0]
        spans = [(low - around, high + around) for low, high in spans]
        windows = []
        for fine, coarse in itertools.pairwise(strides):
            spans = [
                (
                    max(0, (low - 3 * fine) // coarse * coarse),
                    min(end, -(-(high + 3 * fine) // coarse) * coarse),
                )
                for (low, high), end in zip(spans, ends, strict=True)
            ]
            windows.append(spans)
        whole = [(0, end) for end in ends]
        decoder: Any = self.decoder
        x, at = decoder.center(features[-1]), whole
        levels = list(zip(windows, features, strides, strides[1:], strict=False))
        for block, (window, skip, fine, coarse) in zip(
            decoder.blocks, reversed(levels), strict=True
        ):
            skip = _cut(skip, window, whole, fine)
            x = block(_cut(x, window, at, coarse), *skip.shape[-2:], skip_connection=skip)
            at = window
        return x, (at[0][0] // strides[0], at[1][0] // strides[0])


def _cut(
    features: Tensor, window: list[tuple[int, int]], at: list[tuple[int, int]], stride: int
) -> Tensor:
    """Return the part of `features` (N, C, h, w), which cover `at`, that covers `window`."""
    rows, columns = (
        slice((low - start) // stride, (high - start) // stride)
        for (low, high), (start, _) in zip(window, at, strict=True)
    )
    return features[..., rows, columns]
