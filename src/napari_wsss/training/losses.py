"""Losses of phase 2: several masks per patch, masks that may be wrong, and patch labels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.classes import IGNORE
from napari_wsss.patches.formats.common import MIN_SHARE

__all__ = ["absent_loss", "depth_agreement", "multi_layer_loss", "pixel_loss", "presence_loss"]

#: Generalised cross-entropy: 0 is cross-entropy, 1 the mean absolute error.
_GCE_Q = 0.7
#: Symmetric cross-entropy: weights of its two parts, and the logarithm of a zero label.
_SCE_ALPHA, _SCE_BETA, _SCE_LOG_ZERO = 0.1, 1.0, -4.0


def multi_layer_loss(
    logits: Tensor,
    masks: Tensor,
    weights: tuple[float, ...],
    *,
    kind: Literal["ce", "gce", "sce"] = "ce",
    trusted: Tensor | None = None,
    share: Tensor | None = None,
) -> Tensor:
    """Return the weighted loss against the masks of every depth.

    Han et al. 2022, equation 8; ignored pixels (255) count neither in the sum nor in the
    mean, and a batch without any labelled pixel gives 0, not NaN.

    Parameters
    ----------
    logits
        (N, K, H, W).
    masks
        (N, D, H, W) class indices.
    weights
        D numbers, shallow to deep; they are normalised to sum 1.
    kind
        Loss of the pixels of patches that are not trusted.
    trusted
        (N,) bool: patches whose masks are right; they are learnt by cross-entropy. None is
        none of them.
    share
        (N, H, W): how much each pixel counts, by default 1.
    """
    total = logits.new_zeros((), dtype=torch.float32)
    logits = logits.float()
    for depth, weight in enumerate(weights):
        target = masks[:, depth].long()
        counted = (target != IGNORE).float()
        if share is not None:
            counted = counted * share
        loss = pixel_loss(logits, target, "ce")
        if kind != "ce":
            robust = pixel_loss(logits, target, kind)
            certain = False if trusted is None else trusted.view(-1, 1, 1)
            loss = torch.where(torch.as_tensor(certain, device=loss.device), loss, robust)
        summed = (loss * counted).sum() / counted.sum().clamp_min(1)
        total = total + weight / sum(weights) * summed
    return total


def pixel_loss(logits: Tensor, target: Tensor, kind: Literal["ce", "gce", "sce"]) -> Tensor:
    """Return the loss of every pixel, (N, H, W); 0 where `target` is 255.

    Generalised cross-entropy is ``(1 - p ** q) / q`` with q = 0.7 (Zhang and Sabuncu 2018,
    equation 6). Symmetric cross-entropy adds the reverse one, which for one label is
    ``-A (1 - p)``, with A = -4 and weights 0.1 and 1 (Wang et al. 2019, equation 8).

    Parameters
    ----------
    logits
        (N, K, H, W) float32.
    target
        (N, H, W) class indices.
    kind
        Which loss.
    """
    ce = F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="none")
    if kind == "ce":
        return ce
    p = torch.exp(-ce)
    if kind == "gce":
        # The gradient of p ** q is without bounds at 0.
        return (1 - p.clamp_min(1e-6) ** _GCE_Q) / _GCE_Q
    return _SCE_ALPHA * ce - _SCE_BETA * _SCE_LOG_ZERO * (1 - p)


def depth_agreement(masks: Tensor) -> Tensor:
    """Return (N, H, W): the share of depths, (N, D, H, W), that agree with the deepest."""
    return (masks == masks[:, -1:]).float().mean(1)


def absent_loss(logits: Tensor, possible: Tensor, where: Tensor) -> Tensor:
    """Return the mean of ``-log(1 - sum of p over impossible classes)`` over some pixels.

    That a patch does not have a class is certain of each of its pixels, whatever is doubtful
    of them (the complementary labels of Ishida et al. 2017; the negatives of unreliable
    pixels of U2PL, Wang et al. 2022, made certain by the patch's label).

    Parameters
    ----------
    logits
        (N, K, H, W).
    possible
        Classes that a pixel may be of, to be broadcast to (N, K, H, W). Pixels without any
        do not count.
    where
        (N, H, W) bool: the pixels that count.
    """
    logits = logits.float()
    possible = possible.bool().expand_as(logits)
    some = possible.any(1)
    # A pixel without any would give infinity, which no weight turns into 0.
    allowed = logits.masked_fill(~(possible | ~some[:, None]), -torch.inf).logsumexp(1)
    where = where & some
    loss = logits.logsumexp(1) - allowed
    return (loss * where).sum() / where.sum().clamp_min(1)


def presence_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the classes of patches are from covering at least 5 % of them.

    ``-log(min(1, mean p / 0.05))``, averaged over the classes present (labels derived from
    masks need that share): a lower bound on the
    size of a class, as in Kervadec et al. 2019, without which a class that is easily mistaken
    vanishes.

    Parameters
    ----------
    logits
        (N, K, H, W).
    labels
        (N, K): 1 where the class is present.
    """
    covered = logits.float().softmax(1).mean((2, 3))
    missing = -torch.log((covered / MIN_SHARE).clamp(1e-6, 1))
    return (missing * labels).sum() / labels.sum().clamp_min(1)
