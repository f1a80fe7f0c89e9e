"""The copy of a network that runs on slides: the same numbers in less time."""

from __future__ import annotations

import copy

import torch

from napari_wsss.models.device import autocast, uses_bf16
from napari_wsss.models.fusion import M, fused, probe
from napari_wsss.models.pixel_input import with_pixel_input
from napari_wsss.models.quick_conv import QuickConv
from napari_wsss.models.quick_layers import with_quick_convolutions

__all__ = ["accelerated"]


def accelerated(model: M, device: torch.device, precision: str = "auto") -> M:
    """Return a copy of `model` for inference on `device`.

    Batch norms are folded into convolutions, activations computed by them, images taken as
    bytes. Every step is compared with the one before and left out where it does not fit.

    Parameters
    ----------
    model
        Not changed.
    device, precision
        Where it runs, under `autocast` of the same.

    Returns
    -------
    WsssModel
        On the device, channels last, in evaluation mode. If its ``encoder.normalises`` is
        false it takes images (N, 3, H, W) uint8, else values from 0 to 1.
    """
    quick = fused(model)
    if device.type == "cpu":
        quick = with_quick_convolutions(quick)
    quick = with_pixel_input(quick)
    if uses_bf16(device, precision):
        quick = _in_bf16(quick)
    return quick.to(device).to(memory_format=torch.channels_last)


def _in_bf16(model: M) -> M:
    """Return a copy whose quick convolutions hold bfloat16, or `model` if they cannot run."""
    quick = copy.deepcopy(model)
    for module in quick.modules():
        if isinstance(module, QuickConv):
            module.to(torch.bfloat16)
    noise = probe() if quick.encoder.normalises else probe().mul(255).round().to(torch.uint8)
    try:
        with torch.inference_mode(), autocast(torch.device("cpu"), "bf16"):
            quick.dense(noise)
    except (RuntimeError, TypeError):
        return model
    return quick
