"""ResNet-38d: the wide residual network of the paper, as an encoder.

Wu, Shen and van den Hengel, "Wider or Deeper" (2016), model A, with the strides of the
last stages replaced by dilation. Han et al. (2022) take their class activation maps from
its stages ``b4_5``, ``b5_2`` and ``bn7``, which are the last three outputs here. Modules
are named as in the published weight files, so that a local ``.pth`` fits.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["ResNet38d"]


class _Block(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, mid: int, out: int, stride: int, dilations: tuple[int, int]):
        super().__init__()
        first, second = dilations
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, mid, 3, stride, first, first, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(mid)
        self.conv_branch2b1 = nn.Conv2d(mid, out, 3, 1, second, second, bias=False)
        self.relu = nn.ReLU()
        if inputs != out or stride != 1:
            self.conv_branch1 = nn.Conv2d(inputs, out, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn_branch2a(x))
        skip = self.conv_branch1(y) if hasattr(self, "conv_branch1") else x
        y = self.relu(self.bn_branch2b1(self.conv_branch2a(y)))
        return self.conv_branch2b1(y) + skip


class _Bottleneck(nn.Module):
    """Pre-activation bottleneck (1x1, dilated 3x3, 1x1) with dropout."""

    def __init__(self, inputs: int, out: int, stride: int, dilation: int, dropout: float):
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(inputs)
        self.conv_branch2a = nn.Conv2d(inputs, out // 4, 1, stride, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out // 4)
        self.dropout_2b1 = nn.Dropout2d(dropout)
        self.conv_branch2b1 = nn.Conv2d(
            out // 4, out // 2, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.bn_branch2b2 = nn.BatchNorm2d(out // 2)
        self.dropout_2b2 = nn.Dropout2d(dropout)
        self.conv_branch2b2 = nn.Conv2d(out // 2, out, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(inputs, out, 1, stride, bias=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn_branch2a(x))
        skip = self.conv_branch1(y)
        y = self.relu(self.bn_branch2b1(self.conv_branch2a(y)))
        y = self.conv_branch2b1(self.dropout_2b1(y))
        y = self.dropout_2b2(self.relu(self.bn_branch2b2(y)))
        return self.conv_branch2b2(y) + skip


#: Layers of the five stages, in their order.
_STAGES = (
    ("b2", "b2_1", "b2_2"),
    ("b3", "b3_1", "b3_2"),
    ("b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"),
    ("b5", "b5_1", "b5_2"),
    ("b6", "b7", "bn7", "relu7"),
)


class ResNet38d(nn.Module):
    """The encoder: ``forward((N, 3, H, W))`` returns five stages, shallow to deep.

    Parameters
    ----------
    output_stride
        8 as in the paper, 16 or 32.

    Attributes
    ----------
    channels, reductions
        Of the five outputs: 128, 256, 512, 1024 and 4096 channels.
    """

    channels = (128, 256, 512, 1024, 4096)
    #: Modules whose outputs are the stages.
    stage_names = ("b2_2", "b3_2", "b4_5", "b5_2", "relu7")

    def __init__(self, output_stride: int = 8):
        super().__init__()
        s5, s6 = (1, 1) if output_stride == 8 else (2, 1) if output_stride == 16 else (2, 2)
        d5, d6 = {8: (2, 4), 16: (1, 2), 32: (1, 1)}[output_stride]
        self.reductions = (2, 4, 8, 8 * s5, 8 * s5 * s6)
        self.conv1a = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.b2 = _Block(64, 128, 128, 2, (1, 1))
        self.b2_1 = _Block(128, 128, 128, 1, (1, 1))
        self.b2_2 = _Block(128, 128, 128, 1, (1, 1))
        self.b3 = _Block(128, 256, 256, 2, (1, 1))
        self.b3_1 = _Block(256, 256, 256, 1, (1, 1))
        self.b3_2 = _Block(256, 256, 256, 1, (1, 1))
        self.b4 = _Block(256, 512, 512, 2, (1, 1))
        for i in range(1, 6):
            setattr(self, f"b4_{i}", _Block(512, 512, 512, 1, (1, 1)))
        self.b5 = _Block(512, 512, 1024, s5, (1, d5))
        self.b5_1 = _Block(1024, 512, 1024, 1, (d5, d5))
        self.b5_2 = _Block(1024, 512, 1024, 1, (d5, d5))
        self.b6 = _Bottleneck(1024, 2048, s6, d6, 0.3)
        self.b7 = _Bottleneck(2048, 4096, 1, d6, 0.5)
        self.bn7 = nn.BatchNorm2d(4096)
        self.relu7 = nn.ReLU()
        self._kept = len(_STAGES)

    def keep(self, count: int) -> None:
        """Delete the layers behind the first `count` stages."""
        for name in (name for names in _STAGES[count:] for name in names):
            delattr(self, name)
        self._kept = count

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the outputs of ``b2_2``, ``b3_2``, ``b4_5``, ``b5_2`` and ``relu7``."""
        out: list[Tensor] = []
        x = self.conv1a(x)
        for names in _STAGES[: self._kept]:
            for name in names:
                x = getattr(self, name)(x)
            out.append(x)
        return out
