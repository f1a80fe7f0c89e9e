"""Which patch to label next: random, the most doubtful, or the least like those labelled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import ModelError
from napari_wsss.jobs import CancelToken, Job, Log
from napari_wsss.patches.features import PatchFeatures, PatchNetwork, features_job
from napari_wsss.patches.grid import PatchReader
from napari_wsss.patches.slide_labels import SlideLabels
from napari_wsss.slides import Slide

if TYPE_CHECKING:
    from napari_wsss.models import Classifier

__all__ = ["Suggestions", "farthest_first", "label_entropy", "random_order", "suggest_job"]


@dataclass(frozen=True)
class Suggestions:
    """Patches to label next.

    Attributes
    ----------
    cells
        (n,) the most useful first.
    features
        What was computed for it; give it to the next call.
    """

    cells: NDArray[np.int64]
    features: PatchFeatures


def suggest_job(
    slide: Slide,
    labels: SlideLabels,
    candidates: NDArray[np.int64],
    how: Literal["uncertain", "different"],
    *,
    classifier: Classifier | str | Path | None = None,
    most: int = 512,
    seed: int = 0,
    known: PatchFeatures | None = None,
    device: str = "auto",
    cancel: CancelToken | None = None,
) -> Job[Suggestions]:
    """Look for the patches whose labels would teach most, as a job.

    Parameters
    ----------
    slide, labels
        The slide, and what was labelled on it so far; read once, when the job begins.
    candidates
        Cells that may be suggested, such as those with tissue and without a label.
    how
        'uncertain': the classifier knows least which classes occur. 'different': least like
        every patch that is labelled or stands before it in the list.
    classifier
        Needed for 'uncertain'. 'different' compares features of its encoder or, without one,
        of the packaged encoder.
    most
        How many candidates are looked at, drawn at random; on a slide of 50,000 patches a few
        hundred hold about everything there is.
    seed
        Of that drawing.
    known
        Features computed before on this grid.
    device
        Where the network computes.
    cancel
        Stops the job; what was computed stays in `known`.

    Yields
    ------
    Event
        Progress of 'patches looked at'.

    Returns
    -------
    Suggestions
        All that were looked at, in order.

    Raises
    ------
    ModelError
        If there is no classifier to be uncertain, or it does not fit the patches.
    SlideError
        If a patch cannot be read.
    CancelledError
        If `cancel` was set.
    """
    cancel = cancel or CancelToken()
    if how == "uncertain" and classifier is None:
        raise ModelError("Only a classifier can be uncertain. Train one, or choose its file.")
    labelled = labels.labelled
    chosen = random_order(candidates, seed)[:most]
    yield Log("Loading the network")
    network = PatchNetwork(classifier, labels.grid.mpp, device)
    read = PatchReader(slide, labels.grid)
    compared = random_order(labelled, seed)[:most] if how == "different" else labelled[:0]
    features = yield from features_job(
        read, network, np.concatenate([chosen, compared]), known, cancel=cancel
    )
    if not len(chosen):
        return Suggestions(chosen, features)
    if how == "uncertain":
        order = np.argsort(-label_entropy(features.probabilities(chosen)), kind="stable")
    else:
        seen = features.features(compared) if len(compared) else None
        order = farthest_first(features.features(chosen), seen)
    return Suggestions(chosen[order], features)


def random_order(cells: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return `cells` in an order that depends on the seed only."""
    return np.random.default_rng(seed).permutation(np.sort(cells))


def label_entropy(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return (n,) how uncertain labels are, in bits: the sum over the classes.

    Several classes may occur in a patch, so each is a question of its own: yes or no.

    Parameters
    ----------
    probabilities
        (n, K), 0 to 1.
    """
    p = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum(1)


def farthest_first(
    features: NDArray[np.floating], seen: NDArray[np.floating] | None = None
) -> NDArray[np.int64]:
    """Order items so that each is the farthest from all before it (k-centre, greedily).

    Parameters
    ----------
    features
        (n, C).
    seen
        (m, C) of items that stand before the first; without any, the item nearest to the
        mean is the first.

    Returns
    -------
    NDArray
        (n,) indices.

    References
    ----------
    Sener and Savarese 2018, Active learning for convolutional neural networks.
    """
    x = np.asarray(features, np.float32)
    squares = (x * x).sum(1)
    if seen is None or not len(seen):
        nearest = np.full(len(x), np.inf, np.float32)
        first = int(((x - x.mean(0)) ** 2).sum(1).argmin())
    else:
        y = np.asarray(seen, np.float32)
        nearest = (squares[:, None] - 2 * x @ y.T + (y * y).sum(1)).min(1)
        first = int(nearest.argmax())
    order = np.empty(len(x), np.int64)
    for position in range(len(x)):
        i = first if position == 0 else int(nearest.argmax())
        order[position] = i
        nearest = np.minimum(nearest, squares - 2 * x @ x[i] + squares[i])
        nearest[order[: position + 1]] = -np.inf
    return order
