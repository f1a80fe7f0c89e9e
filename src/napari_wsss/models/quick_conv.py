"""A convolution for inference that neither copies its input nor waits for its activation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, get_same_padding, pad_same
from torch import Tensor, nn

__all__ = ["QuickConv"]


class QuickConv(nn.Module):
    """What a convolution gives, in fewer passes over memory; without gradients.

    - "Same" padding of TensorFlow's networks is one-sided where the stride is 2, which timm
      makes by copying the whole input with a row and a column more. A kernel that is one row
      and one column of zeros larger, padded alike on both sides, gives the same.
    - `activation` is computed in the same kernel (oneDNN, hence on a CPU only). PyTorch
      hands that to its compiler only, which needs a C++ compiler on the user's machine,
      through the operator that is called here. It is no public interface: compare a network
      that uses it with the original before it is used.
    - `border` is what lies beyond the image, one value per channel, in place of zeros.

    Parameters
    ----------
    conv
        Its weights are shared.
    """

    activation: tuple[str, list[float]] | None
    border: Tensor | None
    _wider: Tensor | None

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        self.activation = None
        self.register_buffer("border", None)
        self._same = isinstance(conv, Conv2dSame)
        self._padding = tuple(int(n) for n in conv.padding) if not self._same else (0, 0)
        kernel = conv.kernel_size
        self._halves = (
            self._same
            and conv.stride == (2, 2)
            and conv.dilation == (1, 1)
            and all(k % 2 for k in kernel)
        )
        self._half = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        wider = F.pad(conv.weight.detach(), (1, 0, 1, 0)) if self._halves else None
        self.register_buffer("_wider", wider, persistent=False)

    @classmethod
    def fits(cls, conv: nn.Module) -> bool:
        """Whether `conv` is a convolution that this can stand for."""
        return type(conv) in (nn.Conv2d, Conv2dSame) and (
            isinstance(conv.padding, tuple) and conv.padding_mode == "zeros"
        )

    @property
    def one_sided(self) -> bool:
        """Whether the convolution pads by a copy of its input."""
        return self._halves

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H', W') of (N, C, H, W), which may be of another type of number."""
        x, weight, padding = self._placed(x)
        if self.activation is None:
            return F.conv2d(x, weight, self.bias, self.stride, padding, self.dilation, self.groups)
        return torch.ops.mkldnn._convolution_pointwise(
            *(x, weight, self.bias, padding, self.stride, self.dilation, self.groups),
            *(*self.activation, ""),
        )

    def _placed(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """Return input, kernel and the padding that is the same on both sides."""
        if self.border is not None:
            return self._bordered(x, self.border), self.weight, (0, 0)
        x = x.to(self.weight.dtype)
        if not self._same:
            return x, self.weight, self._padding
        if self._wider is not None and not any(n % 2 for n in x.shape[-2:]):
            return x, self._wider, self._half
        kernel, stride, dilation = (
            list(n) for n in (self.weight.shape[-2:], self.stride, self.dilation)
        )
        return pad_same(x, kernel, stride, dilation), self.weight, (0, 0)

    def _bordered(self, x: Tensor, border: Tensor) -> Tensor:
        """Return `x` with its border, converted in the same pass."""
        before, after = [], []
        for size, kernel, stride, dilation, padding in zip(
            x.shape[-2:],
            self.weight.shape[-2:],
            self.stride,
            self.dilation,
            self._padding,
            strict=True,
        ):
            both = get_same_padding(size, kernel, stride, dilation) if self._same else 2 * padding
            before.append(both // 2)
            after.append(both - both // 2)
        (n, c), (height, width) = x.shape[:2], x.shape[-2:]
        (top, left), (bottom, right) = before, after
        whole = torch.empty(
            (n, c, top + height + bottom, left + width + right),
            dtype=self.weight.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        value = border.view(1, -1, 1, 1)
        whole[:, :, :top] = value
        whole[:, :, top + height :] = value
        whole[..., :left] = value
        whole[..., left + width :] = value
        whole[:, :, top : top + height, left : left + width] = x
        return whole
