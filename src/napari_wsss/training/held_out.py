"""The segmenter on held-out patches: scores against their targets, and a few to look at."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.evaluation.metrics import ConfusionMatrix, scores
from napari_wsss.jobs import Example
from napari_wsss.models import Segmenter
from napari_wsss.models.device import autocast
from napari_wsss.patches.formats.common import MIN_SHARE
from napari_wsss.training.batches import PatchLoader
from napari_wsss.training.phase import Validation

__all__ = ["chosen_examples", "label_f1", "segment_held_out"]

VALIDATION_BATCH = 32
#: Held-out patches that are shown after every epoch, and their longest side (pixels).
EXAMPLES, EXAMPLE_PX = 6, 256


@torch.inference_mode()
def segment_held_out(
    model: Segmenter, loader: PatchLoader, device: torch.device, precision: str
) -> Validation:
    """Segment the patches of `loader` and compare with their deepest targets.

    Returns
    -------
    Validation
        ``target_miou`` over the classes that the targets have, ``target_accuracy``,
        ``target_iou CLASS`` of each class that occurs or is found, ``label_f1``, as fractions,
        and up to `EXAMPLES` of the patches.
    """
    n = len(loader.patches)
    order = [list(range(i, min(i + VALIDATION_BATCH, n))) for i in range(0, n, VALIDATION_BATCH)]
    shown = set(chosen_examples(loader.patches.labels))
    k = len(model.classes)
    matrix, examples = ConfusionMatrix(k), []
    covered: list[NDArray[np.float64]] = []
    for indices, batch in zip(order, loader.batches(order), strict=True):
        assert batch.targets is not None
        with autocast(device, precision):
            logits, _ = model(batch.images.to(device) / 255)
        found = logits.argmax(1).to(torch.uint8).cpu().numpy()
        matrix.update(batch.targets[:, -1].numpy(), found)
        covered += [np.bincount(mask.ravel(), minlength=k)[:k] / mask.size for mask in found]
        examples += [
            _example(loader, i, mask) for i, mask in zip(indices, found, strict=True) if i in shown
        ]
    measured = scores(matrix, model.classes.names)
    # One pixel of a class that no held-out patch has would count as much as a class missed, and
    # choose an epoch that never finds a rare class.
    of_classes = zip(measured.iou.values(), matrix.counts.sum(1), strict=True)
    ious = [iou for iou, n in of_classes if n and iou is not None]
    metrics = {"target_miou": float(np.mean(ious)) if ious else measured.miou}
    metrics["target_accuracy"] = measured.accuracy
    metrics["label_f1"] = label_f1(np.array(covered), loader.patches.labels)
    metrics.update({f"target_iou {k}": v for k, v in measured.iou.items() if v is not None})
    return Validation(metrics, tuple(examples))


def label_f1(covered: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Return how well a segmentation agrees with patch labels: F1, averaged over classes.

    Parameters
    ----------
    covered
        (N, K) share of each patch that each class covers.
    labels
        (N, K) presence; classes that no patch has do not count.
    """
    found = covered >= MIN_SHARE
    right = (found & labels).sum(0)
    counted = labels.any(0)
    f1 = 2 * right[counted] / (found.sum(0) + labels.sum(0))[counted]
    return float(f1.mean())


def chosen_examples(labels: NDArray[np.bool_], most: int = EXAMPLES) -> list[int]:
    """Return up to `most` indices of patches (N, K) that differ in their classes.

    Sorted by the classes that occur in them, the patches are chosen evenly, so that frequent
    combinations and rare ones are both seen.
    """
    n = len(labels)
    by_classes = np.lexsort(labels.T[::-1])
    return sorted(int(i) for i in by_classes[np.linspace(0, n - 1, min(n, most)).astype(int)])


def _example(loader: PatchLoader, i: int, prediction: NDArray[np.uint8]) -> Example:
    """Return patch `i` without what was padded, thinned to `EXAMPLE_PX`."""
    image, targets = loader.read(i)
    assert targets is not None
    height, width = image.shape[:2]
    step = math.ceil(max(height, width) / EXAMPLE_PX)
    rows, columns = slice(0, height, step), slice(0, width, step)
    return Example(
        loader.patches.names[i],
        image[rows, columns].copy(),
        targets[-1, rows, columns].copy(),
        prediction[rows, columns].copy(),
    )
