"""Convolution and activation in one kernel, for inference on a CPU.

A network of narrow layers, as those for laptops are, waits for memory: an activation reads and
writes what the convolution has just written. oneDNN computes both at once. PyTorch hands that
to its compiler only, which needs a C++ compiler on the user's machine, through the operator
that is called here. It is no public interface, so a copy that uses it is compared with the
original before it is used, and without the operator nothing changes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

from napari_wsss.models.base import WsssModel
from napari_wsss.models.fusion import M, agree, probe

__all__ = ["with_fused_activations"]


def with_fused_activations(model: M) -> M:
    """Return a copy of `model` for inference in float32 on a CPU, activations fused.

    Parameters
    ----------
    model
        On the CPU, in evaluation mode; not changed.

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
        replaced[conv] = _Activated(conv, activation)
        replaced[activation] = nn.Identity()
    for parent in list(quick.modules()):
        for name, child in list(parent.named_children()):
            if child in replaced:
                setattr(parent, name, replaced[child])
    try:
        with torch.inference_mode():
            return quick if replaced and agree(model, quick, noise) else model
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
        if isinstance(module.padding, tuple):
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
        if type(module) in (nn.Conv2d, Conv2dSame):
            handles.append(module.register_forward_hook(remember))
        elif type(module) in (nn.ReLU, nn.ReLU6):
            handles.append(module.register_forward_pre_hook(look))
    with torch.no_grad():
        model.dense(noise)
    for handle in handles:
        handle.remove()
    # An activation that is used in several places cannot move into one of them.
    return [(conv, activation) for conv, activation in found if uses.count(activation) == 1]


class _Activated(nn.Module):
    """A convolution followed by a ReLU or ReLU6."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self._pads = isinstance(conv, Conv2dSame)
        self._kernel, self._stride, self._dilation = (
            list(n) for n in (conv.kernel_size, conv.stride, conv.dilation)
        )
        padding = (0, 0) if self._pads else conv.padding
        self._options = (padding, conv.stride, conv.dilation, conv.groups)
        relu6 = isinstance(activation, nn.ReLU6)
        self._activation = ("hardtanh", [0.0, 6.0]) if relu6 else ("relu", [])

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C', H', W') of (N, C, H, W)."""
        if self._pads:
            x = pad_same(x, self._kernel, self._stride, self._dilation)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self.weight, self.bias, *self._options, *self._activation, ""
        )
