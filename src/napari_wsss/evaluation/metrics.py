"""Segmentation metrics from one confusion matrix over all pixels of an image set.

Pixels are pooled before any ratio is taken. Averaging a ratio over images instead gives
another number, which depends on how the images were cut; the two must not be compared.

References
----------
Long, Shelhamer, Darrell (2015), *Fully Convolutional Networks for Semantic Segmentation*,
CVPR, section 5, for accuracy, mean IoU and frequency weighted IoU. Dice (1945), *Ecology*
26(3), for the coefficient named after him.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError

__all__ = [
    "ConfusionMatrix",
    "Scores",
    "bootstrap_class_iou",
    "bootstrap_interval",
    "interval",
    "scores",
]


class ConfusionMatrix:
    """Pixel counts per true and predicted class.

    Parameters
    ----------
    n_classes
        Number of classes, K.

    Attributes
    ----------
    counts : NDArray[np.int64]
        Shape (K, K + 1): rows are the truth, columns the prediction. The last column
        counts labelled pixels for which no class was predicted, so that they stand
        against the recall of their class instead of vanishing.

    Raises
    ------
    DataError
        If `n_classes` is below 1.
    """

    def __init__(self, n_classes: int) -> None:
        if n_classes < 1:
            raise DataError(f"A confusion matrix needs at least one class, not {n_classes}.")
        self.counts: NDArray[np.int64] = np.zeros((n_classes, n_classes + 1), np.int64)

    @classmethod
    def from_counts(cls, counts: ArrayLike) -> ConfusionMatrix:
        """Make a matrix from counts of shape (K, K + 1), or (K, K) if all were predicted.

        Raises
        ------
        DataError
            If the shape is another one, or a count is negative or not whole.
        """
        given = np.asarray(counts)
        rows, columns = given.shape if given.ndim == 2 else (0, 0)
        if rows < 1 or columns - rows not in (0, 1):
            raise DataError(
                f"Confusion counts have shape {given.shape}; (K, K) or (K, K + 1) is needed."
            )
        whole = given.astype(np.int64)
        if (whole != given).any() or (whole < 0).any():
            raise DataError("Confusion counts must be whole numbers, 0 or more.")
        matrix = cls(rows)
        matrix.counts[:, :columns] = whole
        return matrix

    @property
    def n_classes(self) -> int:
        """Number of classes, K."""
        return len(self.counts)

    @property
    def n_pixels(self) -> int:
        """Number of labelled pixels counted."""
        return int(self.counts.sum())

    def update(self, truth: NDArray[Any], prediction: NDArray[Any]) -> ConfusionMatrix:
        """Count one image, or any part of one.

        Parameters
        ----------
        truth
            Class indices of any shape; `IGNORE` (255) is left out.
        prediction
            Class indices of the same shape; anything that is not 0 ... K-1 counts as
            "no class", which is an error wherever the truth has one.

        Returns
        -------
        ConfusionMatrix
            This matrix, so that calls can be chained.

        Raises
        ------
        DataError
            If shapes differ, values are not integers, or the truth holds a value that is
            neither a class nor `IGNORE`. Nothing has been counted then.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape:
            raise DataError(
                f"The truth has shape {truth.shape}, the prediction {prediction.shape}; "
                "they must be equal."
            )
        for name, array in (("truth", truth), ("prediction", prediction)):
            if array.dtype.kind not in "iu":
                raise DataError(f"The {name} has dtype {array.dtype}; class indices are integers.")
        k = self.n_classes
        labelled = truth != IGNORE
        true = truth[labelled].astype(np.int64)
        unknown = np.unique(true[(true < 0) | (true >= k)])
        if unknown.size:
            raise DataError(
                f"The truth holds {', '.join(map(str, unknown[:10]))}; classes are 0 to {k - 1}, "
                f"and {IGNORE} marks pixels to leave out. Map mask values with the class table."
            )
        found = prediction[labelled].astype(np.int64)
        found[(found < 0) | (found >= k)] = k
        size = k * (k + 1)
        self.counts += np.bincount(true * (k + 1) + found, minlength=size).reshape(k, k + 1)
        return self

    def add(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """Add the counts of `other` to this matrix and return it; DataError if K differs."""
        if other.n_classes != self.n_classes:
            raise DataError(
                f"Matrices of {self.n_classes} and {other.n_classes} classes cannot be added."
            )
        self.counts += other.counts
        return self

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        return ConfusionMatrix.from_counts(self.counts).add(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ConfusionMatrix) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"ConfusionMatrix(n_classes={self.n_classes}, n_pixels={self.n_pixels})"

    def normalized(self) -> NDArray[np.float64]:
        """Return each row as fractions of its true class, shape (K, K + 1); NaN if it is empty."""
        rows = self.counts.sum(axis=1, keepdims=True)
        return np.divide(self.counts, rows, out=np.full(self.counts.shape, np.nan), where=rows > 0)


@dataclass(frozen=True)
class Scores:
    """Metrics of one confusion matrix, all as fractions.

    Attributes
    ----------
    miou
        Mean of the classes' IoU.
    fwiou
        IoU weighted by the true share of each class.
    accuracy
        Correct pixels over labelled pixels.
    mean_dice
        Mean of the classes' Dice coefficients.
    iou, dice
        Per class name; None for a class that occurs in neither truth nor prediction.
        Such classes are left out of the means. A class that was predicted but never
        occurs has 0 and is part of them.
    support
        Labelled pixels per class name.

    Notes
    -----
    The four means are NaN where there is no labelled pixel at all.
    """

    miou: float
    fwiou: float
    accuracy: float
    mean_dice: float
    iou: Mapping[str, float | None]
    dice: Mapping[str, float | None]
    support: Mapping[str, int]


def scores(matrix: ConfusionMatrix, names: Sequence[str] | None = None) -> Scores:
    """Compute all metrics of a confusion matrix.

    With n_ij pixels of class i predicted as j, t_i = sum_j n_ij and p_i = sum_j n_ji::

        accuracy = sum_i n_ii / sum_i t_i
        IoU_i    = n_ii / (t_i + p_i - n_ii)        mIoU = mean_i IoU_i
        FwIoU    = sum_i t_i IoU_i / sum_i t_i
        Dice_i   = 2 n_ii / (t_i + p_i)

    Parameters
    ----------
    matrix
        Counts over all pixels of the set.
    names
        K class names; ``"class 0"`` and so on by default.

    Returns
    -------
    Scores
        Fractions between 0 and 1.

    Raises
    ------
    DataError
        If the number of names is not K.
    """
    names = [f"class {i}" for i in range(matrix.n_classes)] if names is None else list(names)
    if len(names) != matrix.n_classes:
        raise DataError(f"{len(names)} class names for a matrix of {matrix.n_classes} classes.")
    true, predicted, both = _margins(matrix.counts)
    iou = _ratio(both, true + predicted - both)
    dice = _ratio(2 * both, true + predicted)
    total = true.sum()
    return Scores(
        miou=_mean(iou),
        fwiou=float(np.nansum(true * iou) / total) if total else float("nan"),
        accuracy=float(both.sum() / total) if total else float("nan"),
        mean_dice=_mean(dice),
        iou=dict(zip(names, _optional(iou), strict=True)),
        dice=dict(zip(names, _optional(dice), strict=True)),
        support={name: int(n) for name, n in zip(names, true, strict=True)},
    )


def bootstrap_class_iou(
    per_image: NDArray[Any], n: int = 1000, seed: int = 0
) -> NDArray[np.float64]:
    """Resample images with replacement and compute the IoU of every class each time.

    Images, not pixels, are drawn, because the pixels of one image are not independent
    (Efron and Tibshirani 1993, *An Introduction to the Bootstrap*).

    Parameters
    ----------
    per_image
        Counts of each image, shape (I, K, K + 1).
    n
        Number of resamples.
    seed
        Seed of the draw; equal seeds give equal results.

    Returns
    -------
    NDArray[np.float64]
        Shape (n, K); NaN where a class occurs in neither truth nor prediction.

    Raises
    ------
    DataError
        If `per_image` has another shape or `n` is negative.
    """
    counts = np.asarray(per_image, np.float64)
    if counts.ndim != 3 or counts.shape[2] != counts.shape[1] + 1:
        raise DataError(f"Per-image counts have shape {counts.shape}; (I, K, K + 1) is needed.")
    if n < 0:
        raise DataError(f"The number of resamples is {n}; it must be 0 or more.")
    n_images, k, _ = counts.shape
    result = np.full((n, k), np.nan)
    if not n_images:
        return result
    # How often each image is drawn is multinomial, so a resample is one matrix product.
    rng = np.random.default_rng(seed)
    shares = np.full(n_images, 1 / n_images)
    for start in range(0, n, 1000):
        part = slice(start, min(start + 1000, n))
        weights = rng.multinomial(n_images, shares, size=part.stop - part.start)
        drawn = weights.astype(np.float64) @ counts.reshape(n_images, -1)
        true, predicted, both = _margins(drawn.reshape(-1, k, k + 1))
        result[part] = _ratio(both, true + predicted - both)
    return result


def bootstrap_interval(
    per_image: NDArray[Any], n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile interval of the mIoU when images are resampled.

    Parameters
    ----------
    per_image
        Counts of each image, shape (I, K, K + 1).
    n, seed
        Number of resamples and the seed of the draw.
    level
        Share of the resamples inside the interval.

    Returns
    -------
    tuple[float, float]
        Lower and upper end. NaN for fewer than two images (one image says nothing about
        how images differ) or without resamples.

    Raises
    ------
    DataError
        If a shape or number is out of bounds.
    """
    if len(per_image) < 2:
        n = 0
    iou = bootstrap_class_iou(per_image, n, seed)
    return interval(_row_means(iou), level)


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds `level` of the samples that are not NaN."""
    if not 0 < level < 1:
        raise DataError(f"The level of an interval is between 0 and 1, not {level}.")
    finite = samples[np.isfinite(samples)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _margins(counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return true, predicted and correct pixels, each (..., K), of (..., K, K + 1) counts."""
    named = counts[..., :-1]
    return counts.sum(axis=-1), named.sum(axis=-2), np.diagonal(named, axis1=-2, axis2=-1)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _row_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    present = np.isfinite(values)
    return _ratio(np.where(present, values, 0).sum(axis=-1), present.sum(axis=-1))


def _mean(values: NDArray[np.float64]) -> float:
    return float(_row_means(values[None])[0])


def _optional(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
