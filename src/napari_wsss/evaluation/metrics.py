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

__all__ = ["ConfusionMatrix", "Scores", "class_iou", "scores"]


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
    iou = class_iou(matrix.counts)
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


def class_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the IoU of every class, (..., K), of counts (..., K, K + 1).

    NaN stands for a class that occurs in neither truth nor prediction.
    """
    true, predicted, both = _margins(counts)
    return _ratio(both, true + predicted - both)


def _margins(counts: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return true, predicted and correct pixels, each (..., K), of (..., K, K + 1) counts."""
    named = counts[..., :-1]
    return counts.sum(axis=-1), named.sum(axis=-2), np.diagonal(named, axis1=-2, axis2=-1)


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def _mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _optional(values: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(v) else float(v) for v in values]
