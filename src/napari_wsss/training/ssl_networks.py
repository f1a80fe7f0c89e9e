"""The networks of self-supervised pretraining: an encoder, what compares views, the loss."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from napari_wsss import __version__
from napari_wsss.models import Encoder
from napari_wsss.models.base import Trainable
from napari_wsss.settings import EncoderSettings, PretrainSettings
from napari_wsss.training.ssl_views import random_colors, random_geometry, random_view

__all__ = ["Byol", "EncoderInfo", "PatchContrast", "PretrainNetwork", "SimClr", "make_network"]

_HIDDEN = 512


class EncoderInfo(BaseModel):
    """What a file of pretrained weights says of itself.

    Attributes
    ----------
    encoder
        Name of the encoder, and the weights it began with.
    method
        Of `PretrainSettings`.
    tiles, sources
        How many tiles, of how many slides and images.
    training
        Settings of the run.
    metrics
        Of the last epoch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoder: EncoderSettings
    method: str
    tiles: int
    sources: int
    training: dict[str, Any]
    metrics: dict[str, float] = Field(default_factory=dict)
    package_version: str = __version__


class PretrainNetwork(Trainable):
    """Base class: an encoder whose pooled features a small network projects.

    Parameters
    ----------
    settings
        Of the run.
    info
        Header of the file to be written.
    """

    info: EncoderInfo

    def __init__(self, settings: PretrainSettings, info: EncoderInfo):
        super().__init__()
        self.settings, self.info, self.history = settings, info, []
        self.encoder = Encoder(settings.encoder)
        upscale = settings.encoder.resolved(settings.tile_px).upscale
        self.side_px = max(32, round(settings.tile_px * float(upscale)))

    def loss(self, tiles: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of tiles (N, 3, H, W), values 0 to 1, of which views are made."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Return what images (N, 3, H, W) are compared by, (N, P)."""
        raise NotImplementedError

    def view(self, tiles: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random view of each tile."""
        return random_view(tiles, self.side_px, self.settings.views, generator)


class SimClr(PretrainNetwork):
    """Contrast of views (Chen et al. 2020, "A simple framework for contrastive learning of
    visual representations", arXiv 2002.05709).

    Two views of a tile shall be more alike than views of any two tiles of the batch.
    """

    def __init__(self, settings: PretrainSettings, info: EncoderInfo):
        super().__init__(settings, info)
        self.projector = _perceptron(self.encoder.channels[-1], settings.projection)

    def loss(self, tiles: Tensor, generator: torch.Generator) -> Tensor:
        """Return the normalised temperature-scaled cross-entropy (equation 1)."""
        n = len(tiles)
        views = torch.cat([self.view(tiles, generator), self.view(tiles, generator)])
        z = F.normalize(self.embed(views))
        likeness = z @ z.T / self.settings.temperature
        likeness.fill_diagonal_(-math.inf)
        partner = torch.arange(2 * n, device=z.device).roll(n)
        return F.cross_entropy(likeness, partner)

    def embed(self, images: Tensor) -> Tensor:
        """Return the projections (N, P)."""
        return self.projector(_pooled(self.encoder, images)).float()


class Byol(PretrainNetwork):
    """Prediction of one view's projection from the other's (Grill et al. 2020, "Bootstrap
    your own latent", arXiv 2006.07733).

    What is predicted comes from a second network that follows the first one slowly.
    """

    def __init__(self, settings: PretrainSettings, info: EncoderInfo):
        super().__init__(settings, info)
        self.projector = _perceptron(self.encoder.channels[-1], settings.projection)
        self.predictor = _perceptron(settings.projection, settings.projection)
        online = nn.ModuleDict({"encoder": self.encoder, "projector": self.projector})
        self.target = copy.deepcopy(online).requires_grad_(False)

    def loss(self, tiles: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean of 2 - 2 cosine, both ways (equation 2), after `_follow`."""
        self._follow()
        one, two = self.view(tiles, generator), self.view(tiles, generator)
        with torch.no_grad():
            features = _pooled(self.target["encoder"], torch.cat([two, one]))
            wanted = self.target["projector"](features).float()
        found = self.predictor(self.projector(_pooled(self.encoder, torch.cat([one, two]))))
        return (2 - 2 * F.cosine_similarity(found.float(), wanted)).mean()

    def embed(self, images: Tensor) -> Tensor:
        """Return the projections (N, P)."""
        return self.projector(_pooled(self.encoder, images)).float()

    @torch.no_grad()
    def _follow(self) -> None:
        """Let the target take a step towards the network, which the optimiser moved before."""
        momentum = self.settings.target_momentum
        for name in ("encoder", "projector"):
            online, target = getattr(self, name), self.target[name]
            for behind, weight in zip(target.parameters(), online.parameters(), strict=True):
                behind.lerp_(weight, 1 - momentum)
            for behind_buffer, buffer in zip(target.buffers(), online.buffers(), strict=True):
                behind_buffer.copy_(buffer)
            # Frozen batch norms of the encoder are frozen there, too.
            for layer, leader in zip(target.modules(), online.modules(), strict=True):
                layer.training = leader.training


class PatchContrast(PretrainNetwork):
    """Contrast of patches within tiles, sampled by confidence: the light variant, after
    Boserup and Selvan 2022, "Efficient self-supervision using patch-based contrastive
    learning for histopathology image segmentation", arXiv 2208.10779.

    A confidence map says how far each cell of the deepest features belongs to one of two
    kinds of tissue; cells whose entropy is low are sampled of either kind. A cell shall be
    more like itself in other colours than like the cells of the other kind. As many cells
    are compared per tile, few tiles make a batch. Other than published, any encoder is
    trained, each cell's partner is itself in another view, and the map learns by the
    information between cell and kind: certain in each cell, undecided on average.
    """

    #: Cells of each kind that are sampled per tile.
    CELLS = 4

    def __init__(self, settings: PretrainSettings, info: EncoderInfo):
        super().__init__(settings, info)
        channels = self.encoder.channels[-1]
        self.projector = nn.Sequential(
            nn.Conv2d(channels, _HIDDEN, 1), nn.ReLU(), nn.Conv2d(_HIDDEN, settings.projection, 1)
        )
        self.confidence = nn.Conv2d(channels, 1, 1)

    def loss(self, tiles: Tensor, generator: torch.Generator) -> Tensor:
        """Return the contrast of the sampled cells, less the information of the map."""
        base = random_geometry(tiles, self.side_px, self.settings.views, generator)
        views = [random_colors(base, self.settings.views, generator) for _ in range(2)]
        features = self.encoder(torch.cat(views))[-1]
        one, two = F.normalize(self.projector(features).float().flatten(2)).chunk(2)
        logit = self.confidence(features).float().flatten(1)
        p = torch.sigmoid(logit)
        information = _entropy(p.mean()) - _entropy(p).mean()
        sure = 1 - _entropy(p.detach()) / math.log(2)
        kinds = (p.detach() * sure, (1 - p.detach()) * sure)
        # The cells of both views are the same places.
        weights = [torch.add(*kind.chunk(2)) for kind in kinds]
        (a1, a2), (b1, b2) = (self._sampled(one, two, w, generator) for w in weights)
        contrast = self._contrast(a1, a2, b2) + self._contrast(b1, b2, a2)
        return contrast / 2 - information

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean projection over the cells, (N, P)."""
        return self.projector(self.encoder(images)[-1]).float().mean((2, 3))

    def _sampled(
        self, one: Tensor, two: Tensor, weights: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return (M, P) of cells drawn by `weights` (N, L) from both views (N, P, L)."""
        count = min(self.CELLS, weights.shape[1])
        # Before the map has learnt anything, all cells are as good.
        drawn = torch.multinomial(weights.cpu() + 1e-3, count, generator=generator)
        index = drawn.to(one.device)[:, None].expand(-1, one.shape[1], -1)
        picked = (z.gather(2, index).transpose(1, 2).flatten(0, 1) for z in (one, two))
        first, second = picked
        return first, second

    def _contrast(self, anchors: Tensor, partners: Tensor, others: Tensor) -> Tensor:
        """Return the cross-entropy of each anchor's partner among the `others`."""
        own = (anchors * partners).sum(1, keepdim=True)
        logits = torch.cat([own, anchors @ others.T], 1) / self.settings.temperature
        return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long).to(own.device))


def make_network(settings: PretrainSettings, info: EncoderInfo) -> PretrainNetwork:
    """Return the network of `settings.method`."""
    kinds: dict[str, type[PretrainNetwork]] = {
        "simclr": SimClr,
        "byol": Byol,
        "patches": PatchContrast,
    }
    return kinds[settings.method](settings, info)


def _pooled(encoder: nn.Module, images: Tensor) -> Tensor:
    """Return the mean of the deepest features, (N, C)."""
    return encoder(images)[-1].mean((2, 3))


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, _HIDDEN, bias=False),
        nn.BatchNorm1d(_HIDDEN),
        nn.ReLU(),
        nn.Linear(_HIDDEN, outputs),
    )


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy of a yes or no of probability `p`, in nats."""
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log() + (1 - p) * (1 - p).log())
