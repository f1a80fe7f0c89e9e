"""How sure a model may be: a temperature from held-out patch labels alone.

Temperature scaling (Guo et al. 2017, *On Calibration of Modern Neural Networks*, ICML,
section 4.2) divides all logits by one number, which changes no arg-max. It is fitted on truth
per pixel, which weak supervision does not have. What it has is whether a class covers a
certain share of a patch: that is so exactly if the pixel at this rank of the class's
probability, counted from the top, belongs to the class. So this pixel's probability is that
of the label, and the labels of held-out patches say whether it is too bold.

They do not say whether the other pixels are too shy: where a class is present, that pixel is
among the surest, and being sure of it is no merit; where it is absent, all pixels are judged.
So a model is only ever made less sure, never surer. (Where most patches hold all classes, as
in glands, an unbounded fit made a calibrated model far too bold.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar
from torch import Tensor

from napari_wsss.models import WsssModel
from napari_wsss.patches import PatchSet
from napari_wsss.patches.formats.common import MIN_SHARE
from napari_wsss.slides.tissue import glass_mask

__all__ = ["Bags", "fitted_temperature", "held_out_temperature", "pixel_bags"]

#: Fewer held-out patches say nothing.
FEWEST = 16
#: Held-out patches that are looked at, and pixels of each, both evenly chosen.
PATCHES, PIXELS = 192, 1024
#: Bounds of the temperature: labels cannot tell that a model is too shy, and beyond the upper
#: bound it is broken rather than bold.
BOUNDS = (1.0, 8.0)


class Bags(NamedTuple):
    """Pixels of patches, and the patches' labels.

    Attributes
    ----------
    logits
        (N, K, P) logits of P pixels of each patch.
    labels
        (N, K) 0 or 1.
    """

    logits: Tensor
    labels: Tensor


def held_out_temperature(held: PatchSet, model: WsssModel, device: torch.device) -> float:
    """Return the temperature that fits the labels of held-out patches; 1 if they are too few.

    Parameters
    ----------
    held
        Patches that were not trained on; their masks are not read.
    model
        In evaluation mode, on `device`.
    device
        Where the model is.
    """
    if len(held) < FEWEST:
        return 1.0
    return fitted_temperature(pixel_bags(model, held, device))


@torch.inference_mode()
def pixel_bags(model: WsssModel, held: PatchSet, device: torch.device) -> Bags:
    """Return what `model` says of pixels of patches; those of glass are left out.

    A patch that is all glass is taken as it is.
    """
    chosen = np.linspace(0, len(held) - 1, min(PATCHES, len(held))).astype(int)
    rows = []
    for i in chosen:
        image = held.read(int(i))
        x = torch.from_numpy(image.copy()).to(device).permute(2, 0, 1)[None] / 255
        logits = model.dense(x).logits[0].float().flatten(1).cpu()
        if held.glass == "ignore":
            tissue = torch.from_numpy(~glass_mask(image).reshape(-1))
            logits = logits[:, tissue] if bool(tissue.any()) else logits
        rows.append(logits[:, torch.linspace(0, logits.shape[1] - 1, PIXELS).long()])
    labels = torch.from_numpy(held.labels[chosen].astype(np.float32))
    return Bags(torch.stack(rows), labels)


def fitted_temperature(bags: Bags, share: float = MIN_SHARE) -> float:
    """Return the temperature, 1 or more, under which labels are most likely, to three digits.

    Parameters
    ----------
    bags
        Pixels and labels of patches.
    share
        Share of a patch that a class covers to be its label.
    """
    rank = max(1, round(share * bags.logits.shape[-1]))

    def loss(log_temperature: float) -> float:
        p = torch.softmax(bags.logits / math.exp(log_temperature), 1)
        # The rank-th largest; away from 0 and 1, where one wrong label would decide alone.
        at = p.topk(rank, dim=-1).values[..., -1].clamp(1e-3, 1 - 1e-3)
        return float(F.binary_cross_entropy(at, bags.labels))

    low, high = (math.log(bound) for bound in BOUNDS)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    # The method stops just before a bound.
    best = low if loss(low) <= found.fun else float(found.x)
    return round(math.exp(best), 3)
