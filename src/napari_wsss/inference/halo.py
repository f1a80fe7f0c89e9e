"""How far a network sees: the halo a tile needs to give the result of the whole image."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import nn

from napari_wsss.models import WsssModel
from napari_wsss.models.device import one_thread
from napari_wsss.models.replacing import with_replaced

__all__ = ["Halo", "receptive_halo"]


class Halo(NamedTuple):
    """How far a network sees beyond a pixel, in pixels of its input.

    Attributes
    ----------
    logits, presence
        For each of its outputs; multiples of the model's alignment.
    """

    logits: int
    presence: int


#: Networks that see farther than this (input pixels) are treated as global.
_MAX_HALO_PX = 1024
#: The sight of architectures that were measured in this process.
_KNOWN: dict[str, Halo | None] = {}
_ACTIVATIONS = (
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.GELU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.PReLU,
    nn.ELU,
    nn.Mish,
)


def receptive_halo(model: WsssModel) -> Halo | None:
    """Return how far a network sees; None if no halo is exact.

    Computed, not guessed: in a copy of the network every weight is made positive and every
    activation linear, so that no path cancels or saturates, and the gradient of one period
    of output rows is followed back to the input. Its extent is the receptive field. A
    network with global pooling or group statistics reaches the border of any input. The
    halo is then put to the test on noise, because a network may see little and still depend
    on where a tile begins (attention in windows, position codes).

    Parameters
    ----------
    model
        Any of our models.

    Returns
    -------
    Halo or None
        Of its logits and of its presence map, which sees less, for it passes no decoder.
    """
    info = model.info
    key = f"{type(model).__qualname__} {info.encoder.model_dump_json()} {info.architecture}"
    if key not in _KNOWN:
        with one_thread():  # on strips so thin that threads would only wait for one another
            _KNOWN[key] = _measure(model)
    return _KNOWN[key]


def _measure(model: WsssModel) -> Halo | None:
    probe = _transparent(model)
    step = model.alignment_px
    # Most networks see less than half of the limit, and a shorter strip takes less time.
    for most in (_MAX_HALO_PX // 2, _MAX_HALO_PX):
        extents = [_extents(probe, 2 * most, step, axis) for axis in (2, 3)]
        if None not in extents:
            break
    else:
        return None
    seen = [max(pair) for pair in zip(*(e for e in extents if e is not None), strict=True)]
    halo = Halo(*(-(-n // step) * step for n in seen))
    return halo if all(_exact(probe, halo, step, axis) for axis in (2, 3)) else None


def _transparent(model: WsssModel) -> WsssModel:
    """Return a double-precision copy in which every path carries a positive signal."""
    probe = copy.deepcopy(model).cpu().eval().double()
    generator = torch.Generator().manual_seed(0)
    with_replaced(probe, lambda m: nn.Identity() if isinstance(m, _ACTIVATIONS) else None)
    for module in probe.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.modules.conv._ConvNd):
            # Not constant: a normalisation over channels would cancel equal ones.
            mean = 1 / module.weight[0].numel()
            nn.init.uniform_(module.weight, 0.5 * mean, 1.5 * mean, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return probe.requires_grad_(False)


def _extents(probe: WsssModel, length: int, step: int, axis: int) -> list[int] | None:
    """Return how far beyond themselves the middle `step` rows (axis 2) or columns (3) see.

    Of logits and presence map; None if one sees to the border of an input of `length`.
    """
    length = -(-length // step) * step + step
    size = [1, 3, step, step]
    size[axis] = length
    x = torch.ones(size, dtype=torch.float64, requires_grad=True)
    start = length // 2 // step * step
    found = []
    for out in probe.dense(x):
        # The gate's map lies on the grid of the deepest features.
        scale = out.shape[axis] / length
        rows = out.narrow(axis, int(start * scale), max(1, round(step * scale)))
        # With the image times 0, because an output need not depend on it at all.
        total = rows.double().sum() + 0 * x.sum()
        (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
        seen = gradient.abs().sum([i for i in range(4) if i != axis]).nonzero().flatten()
        if len(seen) == 0:  # an output that does not depend on the image
            found.append(0)
            continue
        first, last = int(seen.min()), int(seen.max())
        if first == 0 or last == length - 1:
            return None
        found.append(max(start - first, last + 1 - (start + step), 0))
    return found


@torch.inference_mode()
def _exact(probe: WsssModel, halo: Halo, step: int, axis: int) -> bool:
    """Whether tiles with this halo give what a longer strip of noise gives."""
    far = max(halo)
    size = [1, 3, step, step]
    size[axis] = 2 * far + 3 * step
    strip = torch.rand(size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = probe.dense(strip)
    for output, near in enumerate(halo):
        # The tile's middle is that of the strip: what lies `near` px into it.
        tile = probe.dense(strip.narrow(axis, far - near + step, 2 * near + step))[output]
        scale = whole[output].shape[axis] / size[axis]
        length = max(1, round(step * scale))
        expected = whole[output].narrow(axis, round((far + step) * scale), length)
        found = tile.narrow(axis, round(near * scale), length)
        if not torch.allclose(found.double(), expected.double(), rtol=1e-6, atol=1e-12):
            return False
    return True
