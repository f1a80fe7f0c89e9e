"""Batches of patches: drawn, read ahead of the network, and padded to one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError
from napari_wsss.patches import PatchSet

__all__ = ["UNSURE", "Batch", "PatchLoader", "TargetSource", "draw"]

#: Decoded patches are kept in memory up to this many bytes; the rest is read each time.
CACHE_BYTES = 2 * 1024**3
#: Target of tissue of which no class is known yet; `IGNORE` is no tissue.
UNSURE = 254


class TargetSource(Protocol):
    """Where the segmenter's targets come from: pseudo masks or true masks."""

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D, H, W) class indices of the patch called `name`, 255 = ignored.

        `UNSURE` where a teacher may say what it is.
        """
        ...


class Batch(NamedTuple):
    """Patches of one step.

    Attributes
    ----------
    images
        (N, 3, H, W) uint8.
    labels
        (N, K) float, 1 where the class is present.
    targets
        (N, D, H, W) uint8 class indices, or None.
    trusted
        (N,) bool: patches whose targets are right, or None where that is not known.
    known
        (N, H, W) uint8: the class of pixels of which it is certain, 255 elsewhere; or None.
    """

    images: Tensor
    labels: Tensor
    targets: Tensor | None
    trusted: Tensor | None = None
    known: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return this batch on `device`."""
        there = (None if t is None else t.to(device, non_blocking=True) for t in self)
        return Batch._make(there)


class PatchLoader:
    """Reads patches (and targets) of a set in threads, one batch ahead of its use.

    Parameters
    ----------
    patches
        The patches to read.
    targets
        Where their masks come from; None for the classifier.
    trusted
        (N,) the patches whose masks are right.
    """

    def __init__(
        self,
        patches: PatchSet,
        targets: TargetSource | None = None,
        trusted: NDArray[np.bool_] | None = None,
    ):
        self.patches = patches
        self._trusted = None if trusted is None else torch.from_numpy(trusted)
        self._source = targets
        self._labels = torch.from_numpy(patches.labels.astype(np.float32))
        self._cache: dict[int, tuple[NDArray[np.uint8], NDArray[np.uint8] | None]] = {}
        self._room = CACHE_BYTES

    def read(self, i: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return patch `i`, (H, W, 3), and its (D, H, W) targets or None; kept in memory."""
        if i in self._cache:
            return self._cache[i]
        image = self.patches.read(i)
        target = None if self._source is None else self._target(i, self._source, image.shape)
        size = image.nbytes + (0 if target is None else target.nbytes)
        if self._room >= size:
            self._room -= size
            self._cache[i] = (image, target)
        return image, target

    def _target(self, i: int, source: TargetSource, size: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the masks of patch `i` after checking that they can be trained on."""
        name, k = self.patches.names[i], len(self.patches.classes)
        target = source.targets(name)
        if target.shape[1:] != size[:2]:
            raise DataError(
                f"The mask of patch {name!r} has {target.shape[2]} x {target.shape[1]} px, the "
                f"patch {size[1]} x {size[0]}. They must be equal."
            )
        classes = target[(target != IGNORE) & (target != UNSURE)]
        if bool((classes >= k).any()):
            raise DataError(
                f"The mask of patch {name!r} holds {classes.max()}, which is "
                f"none of the {k} classes."
            )
        return target

    def batches(self, order: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Yield one `Batch` for each sequence of patch indices in `order`."""
        with ThreadPoolExecutor(4, thread_name_prefix="patches") as pool:
            waiting = None
            for indices in order:
                coming = [pool.submit(self.read, i) for i in indices]
                if waiting is not None:
                    yield self._collate(waiting[0], [f.result() for f in waiting[1]])
                waiting = (indices, coming)
            if waiting is not None:
                yield self._collate(waiting[0], [f.result() for f in waiting[1]])

    def _collate(
        self,
        indices: Sequence[int],
        items: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8] | None]],
    ) -> Batch:
        """Pad to the largest size: images by reflection, targets by `IGNORE`."""
        height = max(image.shape[0] for image, _ in items)
        width = max(image.shape[1] for image, _ in items)
        images, targets = [], []
        for image, target in items:
            pad = ((0, height - image.shape[0]), (0, width - image.shape[1]))
            images.append(np.pad(image, (*pad, (0, 0)), mode="symmetric"))
            if target is not None:
                targets.append(np.pad(target, ((0, 0), *pad), constant_values=IGNORE))
        stack = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return Batch(
            stack,
            self._labels[list(indices)],
            torch.from_numpy(np.stack(targets)) if targets else None,
            None if self._trusted is None else self._trusted[list(indices)],
        )


def draw(
    labels: NDArray[np.bool_], batch_size: int, steps: int, balance: float, seed: int
) -> list[list[int]]:
    """Draw the patches of one epoch.

    A patch is drawn in proportion to the largest ``1 / count(class) ** balance`` of its
    classes: 0 draws every patch alike, 1 every class alike.

    Parameters
    ----------
    labels
        (N, K) presence.
    batch_size, steps
        `steps` batches of `batch_size`; with 0 steps as many as the patches fill.
    balance
        Between 0 and 1.
    seed
        Of this epoch.

    Returns
    -------
    list of list of int
        Patch indices of each batch. Without balance every patch comes once before any
        comes again.
    """
    rng = np.random.default_rng(seed)
    n = len(labels)
    steps = steps or -(-n // batch_size)
    wanted = steps * batch_size
    if balance == 0:
        rounds = [rng.permutation(n) for _ in range(-(-wanted // n))]
        chosen = np.concatenate(rounds)[:wanted]
    else:
        counts = np.maximum(labels.sum(0), 1)
        weight = (labels / counts**balance).max(1)
        chosen = rng.choice(n, wanted, p=weight / weight.sum())
    return chosen.reshape(steps, batch_size).tolist()
