"""What phase 2 minimises: masks, patch labels, and what the teacher makes of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_wsss.classes import IGNORE
from napari_wsss.settings import SegmenterSettings
from napari_wsss.training.batches import UNSURE, Batch
from napari_wsss.training.losses import (
    absent_loss,
    depth_agreement,
    multi_layer_loss,
    presence_loss,
)
from napari_wsss.training.teacher import Teacher, judged

__all__ = ["Goal", "relabels"]


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
    keeps
        Whether pixels of these that have a class keep it.
    """

    def __init__(
        self,
        settings: SegmenterSettings,
        weights: tuple[float, ...],
        teacher: Teacher | None,
        keeps: bool = False,
    ):
        self._settings, self._weights, self._teacher = settings, weights, teacher
        self._keeps = keeps

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
        noise, given = self._settings.noise, batch.targets
        assert given is not None
        masks = given.masked_fill(given == UNSURE, IGNORE)
        logits, presence = model(images)
        exact = batch.trusted
        if exact is None:
            exact = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        share = self._share(masks, exact)
        total = logits.new_zeros((), dtype=torch.float32)
        if relabels(self._settings, epoch) and not bool(exact.all()):
            masks, share, negatives = self._relabelled(images, logits, batch, exact, share, epoch)
            total = total + self._settings.teacher.negatives * negatives
        total = total + multi_layer_loss(
            logits, masks, self._weights, kind=noise.loss, trusted=exact, share=share
        )
        known = batch.labels.any(1)  # nothing is known of unlabelled tiles
        if bool(known.any()):
            gate = F.multilabel_soft_margin_loss(presence.float()[known], batch.labels[known])
            total = total + self._settings.gate_weight * gate
        if noise.absent_weight > 0:
            everywhere = torch.ones_like(masks[:, 0], dtype=torch.bool)
            possible = batch.labels[:, :, None, None]
            total = total + noise.absent_weight * absent_loss(logits, possible, everywhere)
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

    def _relabelled(
        self,
        images: Tensor,
        logits: Tensor,
        batch: Batch,
        exact: Tensor,
        share: Tensor | None,
        epoch: int,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Put the teacher's labels in.

        Returns
        -------
        tuple
            Masks (N, D, H, W); how much their pixels count; and the loss of the classes that
            it finds improbable where it is unreliable.
        """
        assert self._teacher is not None
        assert batch.targets is not None
        doubtful = (~exact).nonzero()[:, 0]
        labels = batch.labels[doubtful]
        with torch.no_grad():
            seen, _ = self._teacher.model(images[doubtful])
        seen = self._teacher.aligned(seen, labels, self._settings.teacher.align)
        # As in U2PL, fewer and fewer pixels are unreliable.
        left = 1 - epoch / self._settings.epochs
        found = judged(seen, labels, self._settings.teacher.unreliable * left)
        given = batch.targets[doubtful]
        kept = (given != IGNORE) & (given != UNSURE) & self._keeps
        if batch.known is not None:
            known = batch.known[doubtful]
            found = found._replace(masks=torch.where(known == IGNORE, found.masks, known))
            kept &= (known == IGNORE)[:, None]
        # Where the pseudo masks of a labelled patch have no class, not even an uncertain one,
        # there is glass.
        glass = (given == IGNORE).all(1) & labels.any(1).view(-1, 1, 1)
        masks = batch.targets.masked_fill(batch.targets == UNSURE, IGNORE)
        masks[doubtful] = torch.where(kept, given, found.masks.masked_fill(glass, IGNORE)[:, None])
        new = ~kept.any(1)
        if share is not None:
            share = share.index_copy(0, doubtful, share[doubtful].masked_fill(new, 1.0))
        negatives = logits.new_zeros((), dtype=torch.float32)
        if self._settings.teacher.negatives > 0:
            where = (found.masks == IGNORE) & ~glass & new
            negatives = absent_loss(logits[doubtful], found.possible, where)
        return masks, share, negatives


def relabels(settings: SegmenterSettings, epoch: int) -> bool:
    """Whether the teacher's labels replace pseudo masks in `epoch` (from 0)."""
    first = settings.teacher.relabel_from
    return first < 1 and epoch >= first * settings.epochs
