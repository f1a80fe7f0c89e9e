"""1 x 1 convolutions as matrix products, where those are quicker."""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.models.replacing import with_replaced

__all__ = ["with_matrix_products"]

M = TypeVar("M", bound=nn.Module)

#: Channels on both sides from which a processor's matrix product wins. Backward passes of
#: such convolutions are up to four times quicker, those of narrow ones slower.
_WIDE = 512


def with_matrix_products(model: M) -> M:
    """Replace the wide 1 x 1 convolutions of `model`, in place, and return it.

    On a CPU, with tensors that are channels last in memory, a 1 x 1 convolution is a matrix
    product of (pixels, channels), and a linear algebra library computes that faster than
    a convolution library does, above all backwards.
    """
    return with_replaced(model, lambda m: _Pointwise(m) if _is_wide_pointwise(m) else None)


def _is_wide_pointwise(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and (module.kernel_size, module.stride, module.groups) == ((1, 1), (1, 1), 1)
        and module.padding in ((0, 0), "valid", "same")
        and min(module.in_channels, module.out_channels) >= _WIDE
    )


class _Pointwise(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        assert isinstance(conv, nn.Conv2d)
        self.weight = nn.Parameter(conv.weight.detach().flatten(1))
        self.bias = conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H, W) of (N, C, H, W)."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)
