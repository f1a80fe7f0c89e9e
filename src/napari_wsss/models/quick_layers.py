"""Convolution and activation in one kernel, for inference on a CPU.

A network of narrow layers, as those for laptops are, waits for memory: an activation reads and
writes what the convolution has just written. oneDNN computes both at once (see `QuickConv`).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from napari_wsss.models.base import WsssModel
from napari_wsss.models.fusion import M, agree, probe
from napari_wsss.models.quick_conv import QuickConv
from napari_wsss.models.replacing import with_replaced

__all__ = ["with_quick_convolutions"]


@torch.no_grad()
def with_quick_convolutions(model: M) -> M:
    """Return a copy of `model` for inference on a CPU, in fewer passes over memory.

    Activations are computed by the convolutions before them, and nothing is copied for
    one-sided padding.

    Parameters
    ----------
    model
        On the CPU, in evaluation mode, in float32; not changed.

    Returns
    -------
    WsssModel
        Equal up to rounding, without gradients; `model` itself where it cannot be had.
    """
    if not torch.backends.mkldnn.is_available():
        return model
    quick = copy.deepcopy(model).requires_grad_(False)
    noise = probe()
    replaced: dict[nn.Module, nn.Module] = {}
    for conv, activation in _pairs(quick, noise):
        both = replaced[conv] = QuickConv(conv)
        relu6 = isinstance(activation, nn.ReLU6)
        both.activation = ("hardtanh", [0.0, 6.0]) if relu6 else ("relu", [])
        replaced[activation] = nn.Identity()
    for module in quick.modules():
        if module not in replaced and QuickConv.fits(module):
            alone = QuickConv(module)  # type: ignore[arg-type]
            if alone.one_sided:
                replaced[module] = alone
    if not replaced:
        return model
    with_replaced(quick, replaced.get)
    try:
        with torch.inference_mode():
            return quick if agree(model, quick, noise) else model
    except (RuntimeError, AttributeError, TypeError):  # another version of the operator
        return model


def _pairs(model: WsssModel, noise: Tensor) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Return the convolutions whose output goes into a ReLU or ReLU6, with it."""
    # Kept alive, so that identity means something; the version tells of changes in place, such
    # as a shortcut that is added.
    outputs: list[tuple[Tensor, int, nn.Conv2d]] = []
    found: list[tuple[nn.Conv2d, nn.Module]] = []
    uses: list[nn.Module] = []

    def remember(module: nn.Module, _: Any, output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        outputs.append((output, output._version, module))

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        uses.append(module)
        found.extend(
            (conv, module)
            for output, version, conv in outputs
            if output is inputs[0] and output._version == version
        )

    handles = []
    for module in model.modules():
        if QuickConv.fits(module):
            handles.append(module.register_forward_hook(remember))
        elif type(module) in (nn.ReLU, nn.ReLU6):
            handles.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        model.dense(noise)
    for handle in handles:
        handle.remove()
    # An activation that is used in several places cannot move into one of them.
    return [(conv, activation) for conv, activation in found if uses.count(activation) == 1]
