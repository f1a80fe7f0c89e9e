"""Halving an array: the arithmetic of pyramids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Method", "halve"]

Method = Literal["mean", "mode", "nearest"]
#: Value of pixels that are no class.
_BACKGROUND = 0
#: Share of the pixels up to which they are picked out for a vote.
_FEW = 0.05


def halve(
    pixels: NDArray[Any], method: Method, ignore: Sequence[int | float] = ()
) -> NDArray[Any]:
    """Reduce the last two axes by 2; an odd last row or column is repeated first.

    Parameters
    ----------
    pixels
        (..., H, W).
    method
        ``"mean"``: rounded for integers. ``"mode"``: the value that most of the four pixels
        have; at a tie, a class before background (0), then the first in reading order, which
        favours no class. ``"nearest"``: the first of the four.
    ignore
        Values that count only where all four pixels have one of them (255, not computed).

    Returns
    -------
    NDArray
        (..., ceil(H / 2), ceil(W / 2)), same dtype.
    """
    odd = [(0, 0)] * (pixels.ndim - 2) + [(0, n % 2) for n in pixels.shape[-2:]]
    if any(after for _, after in odd):
        pixels = np.pad(pixels, odd, mode="edge")
    # Side by side in memory, which all that follows is several times faster on.
    four = [np.ascontiguousarray(pixels[..., dy::2, dx::2]) for dy in (0, 1) for dx in (0, 1)]
    return _REDUCERS[method](four, ignore)


def _valid(part: NDArray[Any], ignore: Sequence[int | float]) -> NDArray[np.bool_]:
    valid = np.ones(part.shape, bool)
    for value in ignore:
        valid &= ~np.isnan(part) if value != value else part != value
    return valid


def _mean(four: list[NDArray[Any]], ignore: Sequence[int | float]) -> NDArray[Any]:
    dtype = four[0].dtype
    wide = np.float32 if dtype.kind == "f" and dtype.itemsize < 8 else np.float64
    if dtype == np.uint8 and not any(np.any(p == v) for v in ignore for p in four):
        total8 = four[0].astype(np.uint16)
        for part in four[1:]:
            total8 += part
        return ((total8 + 2) >> 2).astype(np.uint8)
    total = np.zeros(four[0].shape, wide)
    count = np.zeros(four[0].shape, np.uint8)
    for part in four:
        valid = _valid(part, ignore)
        total += np.where(valid, part, 0)
        count += valid
    mean = total / np.maximum(count, 1)
    if dtype.kind in "iu":
        mean = np.floor(mean + 0.5)
    return np.where(count > 0, mean, four[0]).astype(dtype)


def _mode(four: list[NDArray[Any]], ignore: Sequence[int | float]) -> NDArray[Any]:
    # Labels are areas: mostly all four pixels are equal, and only the others need a vote.
    differ = four[0] != four[1]
    for part in four[2:]:
        differ |= four[0] != part
    count = np.count_nonzero(differ)
    if count > differ.size * _FEW:  # picking them out would take longer than voting everywhere
        return _majority(four, ignore)
    result = four[0].copy()
    if count:
        result[differ] = _majority([part[differ] for part in four], ignore)
    return result


def _majority(four: list[NDArray[Any]], ignore: Sequence[int | float]) -> NDArray[Any]:
    best = four[0]
    best_vote = _vote(four, 0, ignore)
    for i in (1, 2, 3):
        vote = _vote(four, i, ignore)
        best = np.where(vote > best_vote, four[i], best)
        best_vote = np.maximum(vote, best_vote)
    return best


def _vote(four: list[NDArray[Any]], i: int, ignore: Sequence[int | float]) -> NDArray[np.uint8]:
    """Return how strongly pixel `i` stands: twice its count, one more if it is a class."""
    votes = np.zeros(four[i].shape, np.uint8)
    for part in four:
        votes += part == four[i]
    votes = 2 * votes + (four[i] != _BACKGROUND)
    if ignore:
        votes[~_valid(four[i], ignore)] = 0
    return votes


def _nearest(four: list[NDArray[Any]], ignore: Sequence[int | float]) -> NDArray[Any]:
    result = four[0].copy()
    for part in four[1:] if ignore else ():
        holes = ~_valid(result, ignore)
        result[holes] = part[holes]
    return result


_REDUCERS: dict[str, Callable[[list[NDArray[Any]], Sequence[int | float]], NDArray[Any]]] = {
    "mean": _mean,
    "mode": _mode,
    "nearest": _nearest,
}
