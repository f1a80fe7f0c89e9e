"""Borders of class maps moved to where the image has edges."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["EPSILON", "guided_filter"]

#: Variance of the grey value (0 to 1) above which an edge is kept.
EPSILON = 0.01
_GREY = (0.299, 0.587, 0.114)


def guided_filter(maps: Tensor, images: Tensor, radius_px: int) -> Tensor:
    """Filter maps so that their borders follow those of the image.

    Around each pixel a map is fitted by a line in the image's grey value, and the lines of all
    windows that hold the pixel are averaged (He, Sun and Tang 2013, *Guided Image Filtering*,
    equations 5 to 8). All sums over windows are box means.

    Parameters
    ----------
    maps
        (N, K, H, W), finite.
    images
        (N, 3, H, W), values 0 to 1.
    radius_px
        Windows have a side of ``2 * radius_px + 1``; beyond the border there is nothing.

    Returns
    -------
    Tensor
        (N, K, H, W).
    """
    weights = torch.tensor(_GREY, device=images.device).view(1, 3, 1, 1)
    grey = (images.float() * weights).sum(1, keepdim=True)
    maps = maps.float()
    mean = _box(grey, radius_px)
    variance = _box(grey * grey, radius_px) - mean * mean
    level = _box(maps, radius_px)
    slope = (_box(maps * grey, radius_px) - level * mean) / (variance + EPSILON)
    offset = level - slope * mean
    return _box(slope, radius_px) * grey + _box(offset, radius_px)


def _box(x: Tensor, radius_px: int) -> Tensor:
    """Return the mean over the window around each pixel, of those pixels that there are."""
    side = 2 * radius_px + 1
    return F.avg_pool2d(x, side, stride=1, padding=radius_px, count_include_pad=False)
