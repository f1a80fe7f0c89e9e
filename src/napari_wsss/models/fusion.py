"""Batch normalisation folded into the convolutions before it, for inference.

In evaluation a batch norm is a scale and a shift per channel, which the convolution's own
weights can do: one pass over memory less for each, which is what large tiles wait for.
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from napari_wsss.models.base import DenseOutput, WsssModel
from napari_wsss.models.replacing import with_replaced

__all__ = ["agree", "fused", "probe", "same_output"]

M = TypeVar("M", bound=WsssModel)

#: Side of the noise (px) on which the result is compared with the original.
_PROBE_PX = 96
_TOLERANCE = 1e-4


@torch.no_grad()
def fused(model: M) -> M:
    """Return a copy of `model` for inference, its batch norms folded into convolutions.

    Which convolution feeds which batch norm is found by watching a forward pass. The copy is
    compared with the original on noise; a network that is wired in another way (an output
    used twice, say) is returned as it was.

    Parameters
    ----------
    model
        Not changed.

    Returns
    -------
    WsssModel
        On the CPU, in evaluation mode, its outputs equal up to rounding.
    """
    plain = copy.deepcopy(model).cpu().eval()
    noise = probe()
    quick = copy.deepcopy(plain)
    pairs = _pairs(quick, noise)
    for conv, norm in pairs:
        conv.weight, bias = fuse_conv_bn_weights(
            conv.weight,
            conv.bias,
            norm.running_mean,  # type: ignore[arg-type]
            norm.running_var,  # type: ignore[arg-type]
            norm.eps,
            norm.weight,
            norm.bias,
        )
        conv.bias = bias
    replaced: dict[nn.Module, nn.Module] = {norm: _rest(norm) for _, norm in pairs}
    with_replaced(quick, replaced.get)
    return quick if agree(plain, quick, noise) else plain


def _pairs(model: WsssModel, noise: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return the convolutions whose output goes into a batch norm, with it."""
    outputs: list[tuple[Tensor, nn.Conv2d]] = []  # kept alive, so that identity means something
    found: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append((output, module))

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        for output, conv in outputs:
            if output is inputs[0] and conv.out_channels == module.num_features:
                found.append((conv, module))

    handles = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(remember))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(look))
    model.dense(noise)
    for handle in handles:
        handle.remove()
    return found


def _rest(norm: nn.BatchNorm2d) -> nn.Module:
    """Return what a layer does after normalising: timm's batch norms hold the activation."""
    return norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity()


def probe() -> Tensor:
    """Return the noise (1, 3, H, W) on which copies are compared."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, _PROBE_PX, _PROBE_PX, generator=generator)


def agree(plain: WsssModel, quick: WsssModel, noise: Tensor) -> bool:
    """Whether two models give the same dense output, all numbers, up to rounding."""
    return same_output(plain.dense(noise), quick.dense(noise))


def same_output(expected: DenseOutput, found: DenseOutput) -> bool:
    """Whether two outputs are the same, all of them numbers, up to rounding."""
    for a, b in zip(expected, found, strict=True):
        if not torch.isfinite(a).all():  # a broken model is reported where it runs
            return False
        scale = a.abs().max().clamp_min(1e-6)
        if (a - b).abs().max() > _TOLERANCE * scale:
            return False
    return True
