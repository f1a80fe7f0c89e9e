"""The copy of a network that runs on slides: the same numbers in less time."""

from __future__ import annotations

import copy
from weakref import WeakKeyDictionary

import torch

from napari_wsss.models.base import WsssModel
from napari_wsss.models.checkpoint import weights_digest
from napari_wsss.models.device import autocast, uses_bf16
from napari_wsss.models.fusion import M, fused, probe
from napari_wsss.models.pixel_input import with_pixel_input
from napari_wsss.models.quick_conv import QuickConv
from napari_wsss.models.quick_layers import with_quick_convolutions

__all__ = ["accelerated"]

#: The copy that was made last of each model that is in use, and what it was made of and for:
#: its comparisons take a quarter of a second, which every one of many small images would pay.
_MADE: WeakKeyDictionary[WsssModel, tuple[object, WsssModel]] = WeakKeyDictionary()


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
        On the device, channels last, in evaluation mode; the caller's own. If its
        ``encoder.normalises`` is false it takes images (N, 3, H, W) uint8, else values from
        0 to 1.
    """
    on_cpu, in_bf16 = device.type == "cpu", uses_bf16(device, precision)
    # Mean and deviation of the pixels are no weights, but go into the first convolution.
    pixels = [v.flatten().tolist() for v in (model.encoder.mean, model.encoder.std)]
    made_for = weights_digest(model), pixels, on_cpu, in_bf16
    known, quick = _MADE.get(model, (None, None))
    if known != made_for or quick is None:
        quick = _made(model, on_cpu=on_cpu, in_bf16=in_bf16)
        _MADE[model] = made_for, quick
    own: M = copy.deepcopy(quick)  # type: ignore[assignment]
    return own.to(device).to(memory_format=torch.channels_last)


def _made(model: M, *, on_cpu: bool, in_bf16: bool) -> M:
    """Return the copy on the CPU, in the layout of `model`."""
    quick = fused(model)
    if on_cpu:
        quick = with_quick_convolutions(quick)
    quick = with_pixel_input(quick)
    return _in_bf16(quick) if in_bf16 else quick


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
