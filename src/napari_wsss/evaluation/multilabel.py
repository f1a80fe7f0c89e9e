"""Metrics of patch labels: average precision per class and exact matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError

__all__ = ["MultilabelScores", "average_precision", "multilabel_scores"]


@dataclass(frozen=True)
class MultilabelScores:
    """How well scores rank and name the classes of patches, as fractions.

    Attributes
    ----------
    ap
        Average precision per class name; None for a class that every patch has, or none.
    mean_ap
        Mean over the classes that have one; NaN if none has.
    exact_match
        Share of the patches whose labels are all right; NaN without patches.
    left_out
        Names of the classes without an average precision.
    n_patches
        Number of patches, N.
    """

    ap: Mapping[str, float | None]
    mean_ap: float
    exact_match: float
    left_out: tuple[str, ...]
    n_patches: int


def average_precision(labels: NDArray[Any], scores: NDArray[Any]) -> float:
    """Compute the area under the precision-recall steps of one class.

    ``AP = sum_n (R_n - R_(n-1)) P_n`` over the distinct scores in falling order, without
    interpolation. Patches with equal scores enter together, so their order has no effect.

    Parameters
    ----------
    labels
        Shape (N,), true where the class is present.
    scores
        Shape (N,), higher for more likely present.

    Returns
    -------
    float
        Between 0 and 1; NaN if no patch has the class.

    Raises
    ------
    DataError
        If the shapes differ or a score is NaN.
    """
    labels, scores = np.asarray(labels).astype(bool), np.asarray(scores)
    if labels.ndim != 1 or labels.shape != scores.shape:
        raise DataError(f"Labels {labels.shape} and scores {scores.shape} must both be (N,).")
    if np.isnan(scores).any():
        raise DataError("A score is NaN, so patches cannot be ranked.")
    n_present = labels.sum()
    if not n_present:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    hits = np.cumsum(labels[order])[last_of_tie]
    precision = hits / (last_of_tie + 1)
    return float((np.diff(hits, prepend=0) * precision).sum() / n_present)


def multilabel_scores(
    labels: NDArray[Any],
    scores: NDArray[Any],
    names: Sequence[str] | None = None,
    threshold: float = 0.5,
) -> MultilabelScores:
    """Compare the scores of patches with their labels.

    Parameters
    ----------
    labels
        Shape (N, K), 0 or 1.
    scores
        Shape (N, K), probabilities.
    names
        K class names; ``"class 0"`` and so on by default.
    threshold
        A class counts as predicted above this score, for the exact matches.

    Returns
    -------
    MultilabelScores
        Average precisions, their mean and the share of exact matches.

    Raises
    ------
    DataError
        If shapes differ, a label is neither 0 nor 1, or a score is NaN.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.ndim != 2 or labels.shape != scores.shape:
        raise DataError(f"Labels {labels.shape} and scores {scores.shape} must both be (N, K).")
    if not np.isin(labels, (0, 1)).all():
        raise DataError("Patch labels must be 0 or 1.")
    if np.isnan(scores).any():
        rows = np.flatnonzero(np.isnan(scores).any(axis=1))
        raise DataError(f"{len(rows)} patches have NaN scores, the first is number {rows[0]}.")
    n, k = labels.shape
    names = [f"class {i}" for i in range(k)] if names is None else list(names)
    if len(names) != k:
        raise DataError(f"{len(names)} class names for {k} columns of labels.")
    present = labels.astype(bool)
    ap: dict[str, float | None] = {}
    for i, name in enumerate(names):
        mixed = 0 < present[:, i].sum() < n
        ap[name] = average_precision(present[:, i], scores[:, i]) if mixed else None
    known = [value for value in ap.values() if value is not None]
    exact = ((scores > threshold) == present).all(axis=1)
    return MultilabelScores(
        ap=ap,
        mean_ap=float(np.mean(known)) if known else float("nan"),
        exact_match=float(exact.mean()) if n else float("nan"),
        left_out=tuple(name for name, value in ap.items() if value is None),
        n_patches=n,
    )
