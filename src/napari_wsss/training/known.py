"""Pixels whose class follows from the labels of patches that overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.patches.images import read_size
from napari_wsss.patches.overlaps import Overlaps
from napari_wsss.training.batches import TargetSource

__all__ = ["KnownPixels"]


class KnownPixels:
    """What overlapping patches leave of each other's labels, as targets.

    A pixel that lies in several patches has a class of all their labels, or where labels
    contradict each other of most of them (see `Overlaps`); often that is one.

    Parameters
    ----------
    overlaps
        Of the training set.
    base
        Targets that come before, as of `PatchLoader`; None for none.
    """

    def __init__(self, overlaps: Overlaps, base: TargetSource | None = None):
        self._overlaps, self._base = overlaps, base
        self._places = {name: i for i, name in enumerate(overlaps.patches.names)}
        self._paths = overlaps.patches.paths

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D + 1, H, W): those of `base`, and last the classes of known pixels.

        255 where nothing is known, as in patches that are not of the set.
        """
        base = None if self._base is None else self._base.targets(name)
        i = self._places.get(name)
        if base is not None:
            size = base.shape[1:]
        else:
            assert i is not None, f"{name!r} is none of the patches"
            size = read_size(self._paths[i])
        known = np.full(size, IGNORE, np.uint8) if i is None else self._overlaps.known(i, size)
        return known[None] if base is None else np.concatenate([base, known[None]])
