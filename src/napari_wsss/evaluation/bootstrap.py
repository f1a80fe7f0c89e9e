"""Intervals that say how much a metric depends on which images were measured."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError
from napari_wsss.evaluation.metrics import class_iou

__all__ = ["bootstrap_class_iou", "bootstrap_interval", "interval"]


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
        result[part] = class_iou(drawn.reshape(-1, k, k + 1))
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
    present = np.isfinite(iou)
    total = np.where(present, iou, 0).sum(axis=1)
    some = present.any(axis=1)  # a resample may hold no labelled pixel at all
    return interval(total[some] / present[some].sum(axis=1), level)


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds `level` of the samples that are not NaN."""
    if not 0 < level < 1:
        raise DataError(f"The level of an interval is between 0 and 1, not {level}.")
    finite = samples[np.isfinite(samples)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
