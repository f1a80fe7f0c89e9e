"""Dilated depthwise convolutions whose gradients a processor computes quickly."""

from __future__ import annotations

from typing import Self, TypeGuard, TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.models.replacing import with_replaced

__all__ = ["DilatedDepthwise", "with_quick_dilation", "without_quick_dilation"]

M = TypeVar("M", bound=nn.Module)
C = TypeVar("C", bound=nn.Conv2d)


class DilatedDepthwise(nn.Conv2d):
    """A dilated depthwise convolution, computed as one without dilation on interleaved grids.

    Of a dilation of 2 every second row and column of the input meet only each other. As images
    of their own they go through an ordinary convolution, which is the same sum of products.
    oneDNN has quick gradients of that, and none of a dilated depthwise convolution: those four
    of EfficientNet-Lite0's last stage took a quarter of a training step of the classifier.
    """

    @classmethod
    def of(cls, conv: nn.Conv2d) -> Self:
        """Return a convolution with the weights of `conv`, shared."""
        return _like(conv, cls)

    def plain(self) -> nn.Conv2d:
        """Return an ordinary convolution with the weights of this one, shared."""
        return _like(self, nn.Conv2d)

    @staticmethod
    def fits(module: nn.Module) -> TypeGuard[nn.Conv2d]:
        """Whether `module` is a convolution that this can stand for."""
        return (
            type(module) is nn.Conv2d
            and module.groups == module.in_channels > 1
            and max(module.dilation) > 1
            and module.stride == (1, 1)
            and module.padding_mode == "zeros"
            and isinstance(module.padding, tuple)
            # What lies beyond the image is as much on every grid.
            and all(
                2 * p == d * (k - 1)
                for p, d, k in zip(
                    module.padding, module.dilation, module.kernel_size, strict=True
                )
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H, W) of (N, C, H, W)."""
        n, c, height, width = x.shape
        a, b = self.dilation
        x = F.pad(x, (0, -width % b, 0, -height % a))
        h, w = x.shape[-2] // a, x.shape[-1] // b
        # Channels stay the last axis in memory, so that these are plain copies.
        x = x.permute(0, 2, 3, 1).reshape(n, h, a, w, b, c)
        grids = x.permute(0, 2, 4, 1, 3, 5).reshape(n * a * b, h, w, c).permute(0, 3, 1, 2)
        half = [(k - 1) // 2 for k in self.kernel_size]
        y = F.conv2d(grids, self.weight, self.bias, padding=half, groups=self.groups)
        y = y.permute(0, 2, 3, 1).reshape(n, a, b, h, w, -1).permute(0, 3, 1, 4, 2, 5)
        y = y.reshape(n, h * a, w * b, -1)[:, :height, :width]
        return y.contiguous().permute(0, 3, 1, 2)


def _like(conv: nn.Conv2d, kind: type[C]) -> C:
    same = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        groups=conv.groups,
        bias=conv.bias is not None,
        device="meta",
    )
    same.weight, same.bias = conv.weight, conv.bias
    return same.train(conv.training)


def with_quick_dilation(model: M) -> M:
    """Put `DilatedDepthwise` in place of the convolutions of `model` that it can stand for.

    Names and weights stay what they were, so checkpoints and optimisers do not see it.

    Parameters
    ----------
    model
        It is changed, and returned.
    """
    return with_replaced(
        model, lambda m: DilatedDepthwise.of(m) if DilatedDepthwise.fits(m) else None
    )


def without_quick_dilation(model: M) -> M:
    """Undo `with_quick_dilation`."""
    return with_replaced(model, lambda m: m.plain() if isinstance(m, DilatedDepthwise) else None)
