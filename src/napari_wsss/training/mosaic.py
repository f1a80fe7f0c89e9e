"""Patches put together from two single-label ones: exact pixel labels for nothing.

In a patch with one label every pixel has that class, so a patch that shows parts of two such
patches has a true mask. Cut patches were first mixed for classification (CutMix, Yun et al.
2019), along irregular borders by Harris et al. (FMix, 2020); HisynSeg (Fang et al. 2024) makes
them the source of masks for tissue.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.classes import IGNORE
from napari_wsss.training.batches import Batch

__all__ = ["composed", "draw_pairs", "has_pairs", "with_mosaics"]

#: Cells per side of the noise whose level line is the border: few give large parts.
_CELLS = (2, 5)
#: Share of the area that the first patch of a pair keeps.
_SHARE = (0.2, 0.8)
#: Steepness of the blend across the border, per standard deviation of the noise: a few pixels.
_STEEP = 20.0
#: How far the second patch's stain is brought to that of the first, and the largest change.
_MATCH, _MATCH_RANGE = 0.5, (0.6, 1.6)


def has_pairs(labels: NDArray[np.bool_]) -> bool:
    """Whether patches with one label, (N, K), are there of two classes at least."""
    return int(labels[labels.sum(1) == 1].any(0).sum()) >= 2


def draw_pairs(
    labels: NDArray[np.bool_], count: int, steps: int, seed: int
) -> list[list[tuple[int, int]]]:
    """Draw the pairs of one epoch.

    A class is drawn as often as it occurs in the labels, so that a rare one does not turn up
    in every patch; then one of its patches that has no other label.

    Parameters
    ----------
    labels
        (N, K) presence; `has_pairs` must hold.
    count, steps
        `steps` times `count` pairs.
    seed
        Of this epoch.

    Returns
    -------
    list of list of tuple
        Indices of two patches each; they may be of the same class.
    """
    rng = np.random.default_rng(seed)
    single = labels & (labels.sum(1, keepdims=True) == 1)
    often = labels.sum(0) * single.any(0)
    classes = rng.choice(labels.shape[1], (steps, count, 2), p=often / often.sum())
    members = [np.flatnonzero(column) for column in single.T]
    return [
        [(int(rng.choice(members[a])), int(rng.choice(members[b]))) for a, b in step]
        for step in classes
    ]


def with_mosaics(batch: Batch, plain: int, generator: torch.Generator) -> Batch:
    """Replace the pairs at the end of a batch by the patches composed of them.

    Parameters
    ----------
    batch
        `plain` patches as they are, then the pairs: first, second, first, second ... Its
        targets, if it has any, are those of pixels that are known.
    plain
        Number of patches before the pairs.
    generator
        Source of the borders; the same state gives the same batch.

    Returns
    -------
    Batch
        `plain` patches and one for each pair. The targets, (N, 1, H, W), hold the classes of
        the pixels of composed patches; in the others those that were known, else 255.
    """
    size = batch.images.shape[2:]
    known = batch.images.new_full((plain, 1, *size), IGNORE)
    if batch.targets is not None:
        known = batch.targets[:plain]
    if plain == len(batch.images):  # one of several processes may have no pair
        return batch._replace(targets=known)
    first, second = slice(plain, None, 2), slice(plain + 1, None, 2)
    classes = batch.labels.argmax(1)
    images, masks = composed(
        batch.images[first].float() / 255,
        batch.images[second].float() / 255,
        classes[first],
        classes[second],
        generator,
    )
    return Batch(
        torch.cat([batch.images[:plain], (images * 255).round().to(torch.uint8)]),
        torch.cat(
            [batch.labels[:plain], torch.maximum(batch.labels[first], batch.labels[second])]
        ),
        torch.cat([known, masks]),
    )


def composed(
    first: Tensor,
    second: Tensor,
    first_class: Tensor,
    second_class: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Compose patches of two, along a random border that is irregular and soft.

    Parameters
    ----------
    first, second
        (N, 3, H, W), values 0 to 1. The stain of the second is brought halfway to that of the
        first, since a step in colour would tell the border.
    first_class, second_class
        (N,) their classes.
    generator
        Source of every random number.

    Returns
    -------
    tuple of Tensor
        Images (N, 3, H, W) with values 0 to 1, and masks (N, 1, H, W) uint8. The first covers
        20 to 80 % of each.
    """
    n, size = len(first), first.shape[-2:]
    cells = int(torch.randint(_CELLS[0], _CELLS[1] + 1, (), generator=generator))
    noise = torch.randn((n, 1, cells, cells), generator=generator)
    noise = F.interpolate(noise, size, mode="bicubic", align_corners=False)
    low, high = _SHARE
    share = low + (high - low) * torch.rand(n, generator=generator)
    ranked = noise.flatten(1).sort(1).values
    place = ((1 - share) * (ranked.shape[1] - 1)).round().long()
    level = ranked.gather(1, place[:, None]).view(-1, 1, 1, 1)
    spread = noise.flatten(1).std(1).view(-1, 1, 1, 1).clamp_min(1e-6)
    part = torch.sigmoid((noise - level) / spread * _STEEP)
    images = part * first + (1 - part) * _stained_like(second, first)
    one, two = (c.view(-1, 1, 1, 1) for c in (first_class, second_class))
    return images.clamp(0, 1), torch.where(part >= 0.5, one, two).to(torch.uint8)


def _stained_like(images: Tensor, other: Tensor) -> Tensor:
    """Return `images` with their mean optical density brought towards that of `other`."""
    density, wanted = (-torch.log(x.clamp_min(1 / 255)) for x in (images, other))
    mean, goal = (d.mean((2, 3), keepdim=True) for d in (density, wanted))
    factor = 1 + _MATCH * (goal / mean.clamp_min(1e-3) - 1)
    return torch.exp(-density * factor.clamp(*_MATCH_RANGE))
