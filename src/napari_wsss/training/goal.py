"""What phase 2 minimises: masks, patch labels, and what the teacher makes of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.classes import IGNORE
from napari_wsss.settings import SegmenterSettings
from napari_wsss.training.batches import Batch
from napari_wsss.training.losses import (
    absent_loss,
    depth_agreement,
    multi_layer_loss,
    presence_loss,
)
from napari_wsss.training.teacher import Teacher, teacher_labels

__all__ = ["Goal"]


class Goal:
    """The loss of a batch.

    Parameters
    ----------
    settings
        Of the run.
    weights
        Of the targets' depths, shallow to deep.
    teacher
        Judges multi-label patches from ``teacher.relabel_from`` on.
    """

    def __init__(
        self, settings: SegmenterSettings, weights: tuple[float, ...], teacher: Teacher | None
    ):
        self._settings, self._weights, self._teacher = settings, weights, teacher

    def loss(self, model: nn.Module, images: Tensor, batch: Batch, epoch: int) -> Tensor:
        """Return the scalar loss.

        Parameters
        ----------
        model
            The segmenter, or what wraps it.
        images
            (N, 3, H, W), values 0 to 1, augmented.
        batch
            Its targets follow the augmentation.
        epoch
            From 0.
        """
        noise, masks = self._settings.noise, batch.targets
        assert masks is not None
        logits, presence = model(images)
        exact = batch.trusted
        if exact is None:
            exact = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        share = self._share(masks, exact)
        if self._relabels(epoch) and not bool(exact.all()):
            masks, share = self._relabelled(images, masks, share, batch.labels, exact, epoch)
        total = multi_layer_loss(
            logits, masks, self._weights, kind=noise.loss, trusted=exact, share=share
        )
        total = total + self._settings.gate_weight * F.multilabel_soft_margin_loss(
            presence.float(), batch.labels
        )
        if noise.absent_weight > 0:
            total = total + noise.absent_weight * absent_loss(
                logits, batch.labels, torch.ones_like(logits[:, 0], dtype=torch.bool)
            )
        if noise.presence_weight > 0:
            total = total + noise.presence_weight * presence_loss(logits, batch.labels)
        return total

    def _share(self, masks: Tensor, exact: Tensor) -> Tensor | None:
        """Return how much each pixel counts, (N, H, W), by the agreement of the depths."""
        how = self._settings.noise.disagreement
        if how == "learn":
            return None
        agreement = depth_agreement(masks)
        if how == "ignore":
            agreement = (agreement == 1).float()
        # True masks and masks of one label are equal at all depths but where these are ignored.
        return torch.where(exact.view(-1, 1, 1), 1.0, agreement)

    def _relabels(self, epoch: int) -> bool:
        """Whether the teacher's labels replace pseudo masks in `epoch`."""
        settings = self._settings
        first = settings.teacher.relabel_from * settings.epochs
        return self._teacher is not None and epoch >= first and settings.teacher.relabel_from < 1

    def _relabelled(
        self,
        images: Tensor,
        masks: Tensor,
        share: Tensor | None,
        labels: Tensor,
        exact: Tensor,
        epoch: int,
    ) -> tuple[Tensor, Tensor | None]:
        """Return masks, and how much their pixels count, with the teacher's labels put in."""
        assert self._teacher is not None
        doubtful = (~exact).nonzero()[:, 0]
        with torch.no_grad():
            logits, _ = self._teacher.model(images[doubtful])
        # As in U2PL, fewer and fewer pixels are unreliable.
        left = 1 - epoch / self._settings.epochs
        found = teacher_labels(logits, labels[doubtful], self._settings.teacher.unreliable * left)
        # What no depth has a class for, glass, stays without one.
        nothing = (masks[doubtful] == IGNORE).all(1)
        found = found.masked_fill(nothing, IGNORE)
        masks = masks.clone()
        masks[doubtful] = found[:, None]
        if share is not None:
            share = share.clone()
            share[doubtful] = 1.0
        return masks, share
