"""Phase 1's network: an encoder with class heads whose maps are class activation maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.models.base import DenseOutput, WsssModel
from napari_wsss.models.info import ModelInfo

__all__ = ["Classifier", "progressive_dropout_attention"]


class Classifier(WsssModel):
    """Multi-label patch classifier (Han et al. 2022, section 3.1).

    A bias-free 1x1 convolution per class and global average pooling: the map before the
    pooling is the CAM of the deepest features. With ``deep_supervision`` in
    ``info.architecture`` every depth has such a head, and one forward pass gives all maps.
    """

    def __init__(self, info: ModelInfo, *, load_weights: bool = True):
        super().__init__(info, load_weights=load_weights)
        depths = info.architecture.get("depths", (-3, -2, -1))
        self.stages = tuple(sorted({self.encoder.depth_index(int(d)) for d in depths}))
        self.deep_supervision = bool(info.architecture.get("deep_supervision", False))
        self.headed = self.stages if self.deep_supervision else self.stages[-1:]
        k = len(info.class_table)
        heads = [nn.Conv2d(self.encoder.channels[s], k, 1, bias=False) for s in self.headed]
        for head in heads:
            nn.init.normal_(head.weight, std=0.01)
        self.heads = nn.ModuleList(heads)

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen depths, shallow to deep, for images (N, 3, H, W)."""
        stages = self.encoder(self.scaled(x))
        return [stages[s] for s in self.stages]

    def head_maps(self, features: list[Tensor]) -> list[Tensor]:
        """Return (N, K, h, w) logit maps of every depth that has a head."""
        used = features if self.deep_supervision else features[-1:]
        return [head(f) for head, f in zip(self.heads, used, strict=True)]

    def forward(self, x: Tensor, mu: float | None = None) -> list[Tensor]:
        """Return image logits (N, K) of every head, shallow to deep.

        Parameters
        ----------
        x
            Images (N, 3, H, W), values 0 to 1.
        mu
            Cut-off of Progressive Dropout Attention on the deepest features; None is off.
        """
        features = self.features(x)
        if mu is not None:
            weight = self.heads[-1].get_parameter("weight")
            attention = progressive_dropout_attention(features[-1], weight, mu)
            features = [*features[:-1], features[-1] * attention]
        return [m.float().mean((2, 3)) for m in self.head_maps(features)]

    def dense(self, x: Tensor) -> DenseOutput:
        """Return the (fused) CAM logits at input size and the deepest map."""
        maps = self.head_maps(self.features(x))
        size = x.shape[-2:]
        large = [
            F.interpolate(m.float(), size, mode="bilinear", align_corners=False) for m in maps
        ]
        return DenseOutput(torch.stack(large).mean(0), maps[-1])


def progressive_dropout_attention(features: Tensor, weight: Tensor, mu: float) -> Tensor:
    """Return the attention map of Progressive Dropout Attention.

    Per image and class, M = relu(w . m) is cut where it exceeds ``mu * max M``; the mean of
    the cut maps over the classes is the attention A (Han et al. 2022, equations 2-4). Here A
    is scaled to mean 1, so that features keep their magnitude between training, where it
    applies, and prediction, where it does not.

    Parameters
    ----------
    features
        (N, C, h, w).
    weight
        (K, C, 1, 1) class head.
    mu
        Share of the maximum above which activations are dropped, in (0, 1].

    Returns
    -------
    Tensor
        (N, 1, h, w), mean 1 per image, without gradient.
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        maps = F.relu(F.conv2d(features.float(), weight.float()))
        cut = mu * maps.amax((2, 3), keepdim=True)
        attention = torch.where(maps <= cut, maps, 0.0).mean(1, keepdim=True)
        mean = attention.mean((2, 3), keepdim=True)
        # A map that is zero everywhere says nothing: leave those features as they are.
        return torch.where(mean > 1e-8, attention / mean.clamp_min(1e-8), 1.0)
