"""A class head on the features of several depths at once, at the shallowest one's resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["JointHead"]


class JointHead(nn.Module):
    """Features of all depths, reduced, enlarged, concatenated and mixed, to one class map.

    Deep features say what a tissue is, shallow ones where it ends. A 1x1 convolution reduces
    each depth; a 3x3 convolution mixes them at the resolution of the shallowest; a bias-free
    1x1 convolution gives the classes, so that under global average pooling its map is a class
    activation map like that of any other head.

    Parameters
    ----------
    channels
        Channels of each depth, shallow to deep.
    n_classes
        Number of classes, K.
    width
        Channels that each depth is reduced to; the mixing layer has twice as many.
    """

    def __init__(self, channels: Sequence[int], n_classes: int, width: int):
        super().__init__()
        self.reduce = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for c in channels
        )
        self.mix = nn.Sequential(
            nn.Conv2d(width * len(channels), 2 * width, 3, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
        )
        self.classes = nn.Conv2d(2 * width, n_classes, 1, bias=False)
        nn.init.normal_(self.classes.weight, std=0.01)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the logit map (N, K, h, w), h x w being the size of ``features[0]``."""
        size = features[0].shape[-2:]
        large = [
            F.interpolate(reduce(f), size, mode="bilinear", align_corners=False)
            for reduce, f in zip(self.reduce, features, strict=True)
        ]
        mixed: Tensor = self.classes(self.mix(torch.cat(large, 1)))
        return mixed
