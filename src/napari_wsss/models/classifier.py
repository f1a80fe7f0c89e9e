"""Phase 1's network: an encoder with class heads whose maps are class activation maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.errors import ModelError
from napari_wsss.models.base import DenseOutput, WsssModel
from napari_wsss.models.info import ModelInfo
from napari_wsss.models.joint_head import JointHead

__all__ = ["Classifier", "ClassifierOutput", "progressive_dropout_attention"]


class ClassifierOutput(NamedTuple):
    """What training looks at.

    Attributes
    ----------
    logits
        Image logits (N, K) of every head, shallow to deep.
    joint
        (N, K, h, w) logit map of the joint head, None without one.
    """

    logits: list[Tensor]
    joint: Tensor | None


class Classifier(WsssModel):
    """Multi-label patch classifier (Han et al. 2022, section 3.1).

    A bias-free 1x1 convolution per class and global average pooling: the map before the
    pooling is the CAM of the deepest features. With ``deep_supervision`` in
    ``info.architecture`` every depth has such a head, and one forward pass gives all maps.
    With ``joint_head`` (its width) there is also a `JointHead` on the features of all depths.
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
        width = int(info.architecture.get("joint_head", 0))
        channels = [self.encoder.channels[s] for s in self.stages]
        self.joint = JointHead(channels, k, width) if width else None

    def features(self, x: Tensor) -> list[Tensor]:
        """Return the features of the chosen depths, shallow to deep, for images (N, 3, H, W)."""
        stages = self.encoder(self.scaled(x))
        return [stages[s] for s in self.stages]

    def head_maps(self, features: list[Tensor]) -> list[Tensor]:
        """Return (N, K, h, w) logit maps of every depth that has a head."""
        used = features if self.deep_supervision else features[-1:]
        return [head(f) for head, f in zip(self.heads, used, strict=True)]

    def joint_map(self, features: list[Tensor]) -> Tensor:
        """Return the (N, K, h, w) logit map of the joint head.

        Raises
        ------
        ModelError
            If this classifier was trained without one.
        """
        if self.joint is None:
            raise ModelError(
                "This classifier has no joint head. Train it with joint_head = true, or take "
                "another method."
            )
        joint: Tensor = self.joint(features)
        return joint

    def forward(self, x: Tensor, mu: float | None = None) -> ClassifierOutput:
        """Return what all heads say of images (N, 3, H, W) with values 0 to 1.

        Parameters
        ----------
        x
            The images.
        mu
            Cut-off of Progressive Dropout Attention on the features that the deepest head
            sees; None is off. The joint head, whose map is not a spot, sees them as they are.
        """
        features = self.features(x)
        joint = None if self.joint is None else self.joint_map(features).float()
        if mu is not None:
            weight = self.heads[-1].get_parameter("weight")
            attention = progressive_dropout_attention(features[-1], weight, mu)
            features = [*features[:-1], features[-1] * attention]
        logits = [m.float().mean((2, 3)) for m in self.head_maps(features)]
        return ClassifierOutput(logits, joint)

    def dense(self, x: Tensor) -> DenseOutput:
        """Return class logits at input size, and the deepest map.

        The logits are those of the joint head if there is one, else the mean of all heads.
        """
        features = self.features(x)
        maps = self.head_maps(features)
        size = x.shape[-2:]
        if self.joint is not None:
            joint = self.joint(features).float()
            logits = F.interpolate(joint, size, mode="bilinear", align_corners=False)
            return DenseOutput(logits, maps[-1])
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
