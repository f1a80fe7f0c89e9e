"""How readily the gate finds each class: offsets of its logits, from patch labels alone.

The gate says of a window which classes it holds, which is what the label of a patch says, so
labels of held-out patches tell directly where it is too ready or too shy. A class of a few images,
which a network knows by heart, is found in tissue of other images that merely
looks like it; one number for each class mends that (the intercept of Platt 1999, *Probabilistic
Outputs for Support Vector Machines*, without his slope). Nothing else changes: which of the
classes that the gate leaves wins a pixel is decided by the pixel's own logits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor, nn

from napari_wsss.models import Segmenter
from napari_wsss.patches import PatchSet
from napari_wsss.training.calibration import FEWEST

__all__ = ["fitted_offset", "gate_offsets", "shift_gate"]

#: Standard deviation of the offset's prior, in logits: some patches that look alike shall not
#: silence a class.
_PRIOR = 2.0
#: Offsets that are looked at.
_BOUNDS = (-6.0, 6.0)
#: Training patches that speak for a class which no held-out patch has.
_WITNESSES = 32


def gate_offsets(
    model: Segmenter, train: PatchSet, held: PatchSet, device: torch.device
) -> list[float]:
    """Return what is added to the gate's logit of each class.

    Parameters
    ----------
    model
        In evaluation mode, on `device`.
    train
        Patches that were trained on. Some of them speak for a class that no held-out patch
        has, which could be silenced otherwise.
    held
        Patches that were not; neither's masks are read.
    device
        Where the model is.

    Returns
    -------
    list of float
        K offsets; all 0 if there are too few held-out patches, and that of a class which occurs
        nowhere.
    """
    k = len(model.classes)
    if len(held) < FEWEST:
        return [0.0] * k
    logits = _gate_logits(model, held, range(len(held)), device)
    labels = torch.from_numpy(held.labels.astype(np.float32))
    found = []
    for c in range(k):
        z, y = logits[:, c], labels[:, c]
        if not bool(y.any()):
            members = np.flatnonzero(train.labels[:, c])
            if not len(members):
                found.append(0.0)
                continue
            witnesses = members[_evenly(len(members), _WITNESSES)]
            z = torch.cat([z, _gate_logits(model, train, witnesses, device)[:, c]])
            y = torch.cat([y, torch.ones(len(witnesses))])
        found.append(fitted_offset(z, y))
    return found


def fitted_offset(logits: Tensor, labels: Tensor) -> float:
    """Return the most probable offset of (N,) logits, given (N,) labels, to two digits.

    The likelihood of the labels times a normal prior around 0.
    """

    def loss(offset: float) -> float:
        fit = F.binary_cross_entropy_with_logits(logits + offset, labels, reduction="sum")
        return float(fit) + offset**2 / (2 * _PRIOR**2)

    return round(float(minimize_scalar(loss, bounds=_BOUNDS, method="bounded").x), 2)


def shift_gate(model: Segmenter, offsets: list[float]) -> None:
    """Add `offsets`, K of them, to the gate's logits, in its weights and in ``model.info``."""
    old, shift = model.gate, torch.tensor(offsets, device=model.gate.weight.device)
    # Without first weights, which would be drawn from the global generator.
    new = nn.utils.skip_init(nn.Conv2d, old.in_channels, old.out_channels, 1).to(shift.device)
    new.weight, new.bias = (
        old.weight,
        nn.Parameter(shift if old.bias is None else old.bias + shift),
    )
    model.gate = new.eval()
    architecture = {**model.info.architecture, "gate_bias": True}
    model.info = model.info.model_copy(update={"architecture": architecture})


@torch.inference_mode()
def _gate_logits(
    model: Segmenter, patches: PatchSet, which: Iterable[int], device: torch.device
) -> Tensor:
    """Return (N, K) of these patches, each by itself as they may have any size."""
    rows = []
    for i in which:
        image = torch.from_numpy(patches.read(int(i)).copy()).to(device)
        _, presence = model(image.permute(2, 0, 1)[None] / 255)
        rows.append(presence[0].float().cpu())
    return torch.stack(rows)


def _evenly(n: int, most: int) -> NDArray[np.intp]:
    """Return up to `most` of the indices below `n`."""
    return np.linspace(0, n - 1, min(n, most)).astype(np.intp)
