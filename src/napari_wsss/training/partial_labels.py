"""What a patch's label says of its single pixels: the loss of the joint head's map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.classes import IGNORE
from napari_wsss.training.losses import absent_loss

__all__ = ["FOUND_SHARE", "found_loss", "partial_label_loss"]

#: Share of the pixels by which a class is judged to be found: a class of a label covers at
#: least a few per cent of the patch.
FOUND_SHARE = 0.1


def partial_label_loss(
    logits: Tensor, labels: Tensor, found_weight: float, masks: Tensor | None = None
) -> Tensor:
    """Return how far a class map is from what patch labels say of pixels.

    Every pixel has one of the classes of its patch's label:
    ``-log(sum over c in the label of p_c)``, the likelihood of learning from several candidate
    labels (Jin and Ghahramani 2002). In patches with one class that is the cross-entropy
    against a true label of every pixel, which teaches where the same classes lie in patches
    with several. `found_loss` keeps one of these from taking all pixels.

    Parameters
    ----------
    logits
        (N, K, h, w).
    labels
        (N, K): 1 where the class is present, in at least one place of each row.
    found_weight
        Weight of `found_loss`.
    masks
        (N, 1, H, W) classes of pixels that are known better, and 255 elsewhere; brought to
        h x w. None knows none.

    Returns
    -------
    Tensor
        Scalar.
    """
    possible = labels[:, :, None, None]
    if masks is not None:
        known = F.interpolate(masks.float(), logits.shape[-2:], mode="nearest-exact")[:, 0]
        exact = known[:, None] == torch.arange(logits.shape[1], device=known.device).view(
            1, -1, 1, 1
        )
        possible = torch.where((known == IGNORE)[:, None], possible > 0, exact)
    everywhere = torch.ones_like(logits[:, 0], dtype=torch.bool)
    loss = absent_loss(logits, possible, everywhere)
    return loss + found_weight * found_loss(logits, labels) if found_weight else loss


def found_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log-probability that each class of a label is somewhere.

    The probability of a class in a patch is its mean over the `FOUND_SHARE` of the pixels
    where it is most probable (top-k pooling as in WILDCAT, Durand et al. 2017). Patches with
    one class, all pixels of which are known, do not count.

    Parameters
    ----------
    logits, labels
        As in `partial_label_loss`.

    Returns
    -------
    Tensor
        Scalar: the mean over classes, and over all patches.
    """
    pixels = logits.float().softmax(1).flatten(2)
    most = max(1, round(FOUND_SHARE * pixels.shape[2]))
    found = pixels.topk(most, dim=2).values.mean(2)
    count = labels.sum(1)
    loss = -(found.clamp_min(1e-6).log() * labels).sum(1) / count.clamp_min(1)
    return (loss * (count > 1)).mean()
