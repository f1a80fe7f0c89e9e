"""Patches of one label put together within a batch, with masks that are right."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_wsss.training.batches import Batch
from napari_wsss.training.mosaic import composed

__all__ = ["mixed"]


def mixed(
    images: Tensor, batch: Batch, share: float, generator: torch.Generator
) -> tuple[Tensor, Batch]:
    """Replace patches of one label by parts of two of them.

    Phase 2's use of `composed`: without further patches to read, by a partner of the same
    batch, preferably of another class.

    Parameters
    ----------
    images
        (N, 3, H, W), values 0 to 1, augmented.
    batch
        Labels and targets (N, D, H, W) of the same patches; `trusted` says whose are right.
    share
        How many of the patches of one label are replaced.
    generator
        Source of every random number.

    Returns
    -------
    tuple[Tensor, Batch]
        Images, and the batch with targets and labels of what they show now.
    """
    if share == 0 or batch.trusted is None or batch.targets is None:
        return images, batch
    single = (batch.trusted & (batch.labels.sum(1) == 1)).nonzero()[:, 0].cpu()
    classes = batch.labels.argmax(1)
    pairs = []
    for i in single[torch.rand(len(single), generator=generator) < share].tolist():
        others = [j for j in single.tolist() if classes[j] != classes[i]]
        if others:
            pick = int(torch.randint(len(others), (), generator=generator))
            pairs.append((i, others[pick]))
    if not pairs:
        return images, batch
    first, second = torch.tensor(pairs, device=images.device).T
    with torch.autocast(images.device.type, enabled=False):
        parts, masks = composed(
            images[first], images[second], classes[first], classes[second], generator
        )
    images, targets, labels = images.clone(), batch.targets.clone(), batch.labels.clone()
    # What has no class in its own patch, glass, has none here.
    own = masks == classes[first].view(-1, 1, 1, 1)
    targets[first] = torch.where(own, batch.targets[first], batch.targets[second])
    images[first] = parts.to(images)
    labels[first] = torch.maximum(batch.labels[first], batch.labels[second])
    return images, batch._replace(targets=targets, labels=labels)
