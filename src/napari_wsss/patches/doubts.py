"""Labels that may be wrong: what the most similar patches of other images say.

Nearest neighbours in the features of a network (Bahri, Jiang and Gupta 2020, *Deep k-NN for
Noisy Labels*, ICML), for labels of several classes: every class is a question of its own. A
patch is compared with patches of other images alone, so that a label which was given wrongly
to a whole image cannot speak for itself. The features are those of the packaged encoder, which
has learnt none of the labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_wsss.errors import listed
from napari_wsss.jobs import CancelToken, Job, Log
from napari_wsss.patches.features import PatchFeatures, PatchNetwork, features_job
from napari_wsss.patches.patch_report import Problem
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["Doubt", "doubtful_labels", "doubts_job", "doubts_problem", "neighbours_opinion"]

#: Neighbours that are asked, and the share of them that has to disagree.
_NEIGHBOURS, _DISAGREE = 40, 0.9
#: With fewer patches in other images nothing is said.
_FEWEST = 10
#: Patches that are compared with all others at once.
_ROWS = 1024


@dataclass(frozen=True)
class Doubt:
    """A label that patches of other images speak against.

    Attributes
    ----------
    name
        Of the patch.
    class_name
        Of the class.
    given
        Whether the patch is labelled with it.
    disagree
        Share of its neighbours whose label is the opposite.
    """

    name: str
    class_name: str
    given: bool
    disagree: float


def doubts_job(
    patches: PatchSet,
    *,
    known: PatchFeatures | None = None,
    device: str = "auto",
    cancel: CancelToken | None = None,
) -> Job[list[Doubt]]:
    """Look for labels of the training patches that may be wrong, as a job.

    Parameters
    ----------
    patches
        The set; its images are read once, its masks are not.
    known
        Features computed before for this set.
    device
        Where the encoder computes.
    cancel
        Stops the job.

    Yields
    ------
    Event
        Progress of 'patches looked at'.

    Returns
    -------
    list of Doubt
        The strongest first.

    Raises
    ------
    DataError
        If a patch cannot be read.
    CancelledError
        If `cancel` was set.
    """
    train = patches.train()
    if len(set(train.groups)) < 2:
        yield Log("Labels are checked against other images; all patches are of one.", "warning")
        return []
    yield Log("Loading the network")
    network = PatchNetwork(None, 1.0, device)
    cells = np.arange(len(train))
    found = yield from features_job(_reader(train), network, cells, known, cancel=cancel)
    opinion = neighbours_opinion(found.features(cells), train.labels, train.groups)
    return doubtful_labels(train, opinion)


def neighbours_opinion(
    features: NDArray[np.floating], labels: NDArray[np.bool_], groups: tuple[str, ...]
) -> NDArray[np.float64]:
    """Return which share of the most similar patches of other images has each class.

    Parameters
    ----------
    features
        (N, C), of length 1; similar is what has a small angle.
    labels
        (N, K).
    groups
        N images.

    Returns
    -------
    NDArray
        (N, K), 0 to 1; NaN for patches that have hardly any of other images beside them.
    """
    member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    x = np.asarray(features, np.float32)
    opinion = np.full(labels.shape, np.nan)
    for start in range(0, len(x), _ROWS):
        rows = slice(start, start + _ROWS)
        alike = x[rows] @ x.T
        own = member[rows, None] == member[None]
        alike[own] = -np.inf
        for i, others in enumerate((~own).sum(1), start):
            k = min(_NEIGHBOURS, int(others) // 2)
            if k >= _FEWEST:
                nearest = np.argpartition(-alike[i - start], k - 1)[:k]
                opinion[i] = labels[nearest].mean(0)
    return opinion


def doubtful_labels(patches: PatchSet, opinion: NDArray[np.floating]) -> list[Doubt]:
    """Return the labels that neighbours' labels (N, K) speak against, the strongest first."""
    disagree = np.where(patches.labels, 1 - opinion, opinion)
    doubts = [
        Doubt(
            patches.names[i],
            patches.classes.names[k],
            bool(patches.labels[i, k]),
            float(disagree[i, k]),
        )
        for i, k in np.argwhere(disagree >= _DISAGREE)
    ]
    return sorted(doubts, key=lambda doubt: (-doubt.disagree, doubt.name, doubt.class_name))


def doubts_problem(doubts: list[Doubt], n_patches: int) -> list[Problem]:
    """Return what a report says of doubted labels; nothing if there are none."""
    if not doubts:
        return []
    names = {doubt.name for doubt in doubts}
    rows = [
        f"{d.name}: {d.class_name!r} is {'given' if d.given else 'missing'}; of patches that "
        f"look like it, {d.disagree:.0%} {'lack' if d.given else 'have'} it"
        for d in doubts
    ]
    return [
        Problem(
            "warning",
            f"The labels of {len(names)} of {n_patches} training patches may be wrong: the most "
            "similar patches of other images speak against them. Look at them, the strongest "
            f"doubt first; not every one is wrong:{listed(rows)}",
        )
    ]


def _reader(patches: PatchSet) -> Callable[[int], NDArray[np.uint8]]:
    """Return what reads patch i, enlarged or reduced to the size of the first."""
    height, width = patches.read(0).shape[:2]

    def read(i: int) -> NDArray[np.uint8]:
        image = patches.read(int(i))
        if image.shape[:2] == (height, width):
            return image
        return np.asarray(Image.fromarray(image).resize((width, height)))

    return read
