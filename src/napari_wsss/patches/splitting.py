"""Choosing the groups to hold out for validation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError

__all__ = ["validation_groups"]

# Orders of the groups that are tried; few where there are many groups, since then any
# order meets the shares closely.
_MOST_ORDERS = 64
_MOST_STEPS = 30_000


def validation_groups(
    labels: NDArray[np.bool_],
    groups: Sequence[str],
    share: float,
    seed: int,
    class_names: Sequence[str],
) -> frozenset[str]:
    """Choose groups that hold close to `share` of the patches and of every class.

    Parameters
    ----------
    labels
        (N, K) bool.
    groups
        N group names.
    share
        Share to hold out, 0 to below 1.
    seed
        Seed of the orders in which groups are tried.
    class_names
        K names, for the error.

    Returns
    -------
    frozenset[str]
        The groups held out; empty only if `share` is 0.

    Raises
    ------
    DataError
        If there are fewer than two groups, or every group alone holds some class.
    """
    if not 0 <= share < 1:
        raise DataError(f"The share to hold out is {share}; it must be at least 0 and below 1.")
    if share == 0:
        return frozenset()
    unique, member = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)
    hint = (
        "Hold out nothing (validation_share = 0), give the set a validation split, or name "
        "smaller groups."
    )
    if len(unique) < 2:
        raise DataError(
            f"The {len(labels)} patches come from {len(unique)} group(s) (image, slide or "
            f"patient), so none can be held out. {hint}"
        )
    # Columns: number of patches, then patches per class.
    counts = np.zeros((len(unique), 1 + labels.shape[1]))
    np.add.at(counts[:, 0], member, 1)
    np.add.at(counts[:, 1:], member, labels)
    total = counts.sum(0)
    target = share * total
    weight = 1 / np.maximum(target, 1)

    rng = np.random.default_rng(seed)
    best: tuple[float, list[int]] = (np.inf, [])
    for _ in range(int(np.clip(_MOST_STEPS // len(unique), 1, _MOST_ORDERS))):
        cost, chosen = _fill(counts, total, target, weight, rng.permutation(len(unique)))
        if chosen and cost < best[0]:
            best = (cost, chosen)
    if not best[1]:
        scarce = [
            name
            for k, name in enumerate(class_names, start=1)
            if total[k] > 0 and (counts[:, k] > 0).sum() == 1
        ]
        raise DataError(
            "No group can be held out without losing a class from training; classes that "
            f"occur in one group only: {', '.join(scarce)}. {hint}"
        )
    return frozenset(str(unique[g]) for g in best[1])


def _fill(
    counts: NDArray[np.float64],
    total: NDArray[np.float64],
    target: NDArray[np.float64],
    weight: NDArray[np.float64],
    order: NDArray[np.intp],
) -> tuple[float, list[int]]:
    """Take groups in `order` while that brings the shares closer to the target.

    The first group that may be spared is taken whatever its size, so that a set of few
    large groups still gets a validation split.
    """
    held = np.zeros_like(total)
    cost = np.inf
    chosen: list[int] = []
    for g in order:
        after = held + counts[g]
        if ((after >= total) & (total > 0)).any():
            continue
        new_cost = float(((after - target) * weight) @ ((after - target) * weight))
        if new_cost < cost:
            held, cost = after, new_cost
            chosen.append(int(g))
            if held[0] >= target[0] and cost < 1e-6:
                break
    return cost, chosen
