"""Pixels straight into the first convolution, for inference.

Scaling to 0..1, subtracting the mean and dividing by the standard deviation are three passes
over the largest tensors that there are. The first convolution's weights can do all of it, and
bytes are exact in bfloat16, which numbers from 0 to 1 are not.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from napari_wsss.models.fusion import M, probe, same_output
from napari_wsss.models.quick_conv import QuickConv
from napari_wsss.models.replacing import with_replaced

__all__ = ["with_pixel_input"]


@torch.no_grad()
def with_pixel_input(model: M) -> M:
    """Return a copy of `model` for inference that takes images (N, 3, H, W) uint8.

    Parameters
    ----------
    model
        On the CPU, in evaluation mode, in float32; not changed.

    Returns
    -------
    WsssModel
        Equal up to rounding, with ``encoder.normalises`` false; `model` itself, which takes
        values from 0 to 1, where its images go elsewhere than into one convolution.
    """
    quick = copy.deepcopy(model).requires_grad_(False)
    pixels = probe().mul(255).round().to(torch.uint8)
    stem = _stem(quick, pixels)
    if stem is None:
        return model
    mean, std = (v.flatten() for v in (quick.encoder.mean, quick.encoder.std))
    weight = stem.weight / std.view(1, 3, 1, 1)
    shift = (weight * mean.view(1, 3, 1, 1)).sum((1, 2, 3))
    first = stem if isinstance(stem, QuickConv) else QuickConv(stem)
    bias = -shift if stem.bias is None else stem.bias - shift
    first.weight = nn.Parameter(weight / 255, requires_grad=False)
    first.bias = nn.Parameter(bias, requires_grad=False)
    first.border = mean * 255  # which is 0 once it is normalised
    with_replaced(quick, lambda m: first if m is stem else None)
    quick.encoder.normalises = False
    try:
        # An odd size too, for which "same" padding is another one.
        for some in (pixels, pixels[..., :-1, :-3]):
            if not same_output(model.dense(some / 255), quick.dense(some)):
                return model
    except (RuntimeError, NotImplementedError):  # something else does not take bytes
        return model
    return quick


def _stem(model: M, pixels: Tensor) -> nn.Conv2d | QuickConv | None:
    """Return the convolution that the images go into, if they go nowhere else."""
    images: list[Any] = []
    found: list[nn.Module] = []

    def begin(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        images.append(inputs[0])

    def look(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if images and inputs and inputs[0] is images[-1] and not any(module.children()):
            found.append(module)

    handles = [model.encoder.net.register_forward_pre_hook(begin)]
    handles += [m.register_forward_pre_hook(look) for m in model.encoder.net.modules()]
    model.dense(pixels / 255)
    for handle in handles:
        handle.remove()
    if len(found) != 1:
        return None
    stem = found[0]
    if isinstance(stem, QuickConv) or (isinstance(stem, nn.Conv2d) and QuickConv.fits(stem)):
        return stem if stem.groups == 1 else None
    return None
