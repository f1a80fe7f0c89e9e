"""Phase 2's network: encoder, decoder, and a class head on the same encoder for the gate."""

from __future__ import annotations

import torch.nn.functional as F
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from napari_wsss.errors import ModelError
from napari_wsss.models.base import DenseOutput, WsssModel
from napari_wsss.models.info import ModelInfo

__all__ = ["Segmenter"]


class Segmenter(WsssModel):
    """Segmentation network with a classification head.

    ``info.architecture`` holds ``decoder`` (``"unet"`` or ``"deeplabv3plus"``),
    ``decoder_channels`` and ``encoder_stages`` (all where it is missing). The U-Net decodes to
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
        self.gate = nn.Conv2d(self.encoder.channels[-1], k, 1, bias=False)
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
        large = self.scaled(x)
        height, width = large.shape[-2:]
        if self._divisible:  # its skip connection needs sizes that the stride divides
            step = max(self.encoder.reductions)
            pad = (0, -width % step, 0, -height % step)
            large = F.pad(large, pad, mode="replicate")
        stages = self.encoder(large)
        decoded = self.decoder([large, *(stages[i] for i in self._stages)])
        logits = self.classifier(decoded).float()
        if self._divisible:
            logits = F.interpolate(logits, large.shape[-2:], mode="bilinear", align_corners=False)[
                ..., :height, :width
            ]
        logits = F.interpolate(logits, x.shape[-2:], mode="bilinear", align_corners=False)
        return DenseOutput(logits, self.gate(stages[-1]))
