"""Unlabelled tiles beside labelled patches: the mean teacher says what they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError, TrainingError
from napari_wsss.patches import PatchSet, joined
from napari_wsss.patches.images import IMAGE_SUFFIXES, read_size
from napari_wsss.settings import SegmenterSettings
from napari_wsss.training.batches import TargetSource

__all__ = [
    "UnlabelledTargets",
    "check_unlabelled",
    "mixed_order",
    "read_unlabelled",
    "unlabelled",
    "with_tiles",
]


def read_unlabelled(folder: str | Path, like: PatchSet) -> PatchSet:
    """Return every image below a folder as a tile without a label.

    Parameters
    ----------
    folder
        Images of about the size of the patches, at their µm/px.
    like
        The labelled patches: classes, µm/px and rule of glass are theirs.

    Raises
    ------
    DataError
        If there is no image.
    """
    folder = Path(folder)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not paths:
        raise DataError(
            f"There are no images below {folder}. Unlabelled tiles are PNG, JPEG, TIFF or BMP "
            "files of the patches' size and µm/px."
        )
    names = tuple(f"unlabelled/{p.relative_to(folder).as_posix()}" for p in paths)
    return PatchSet(
        paths=tuple(paths),
        names=names,
        labels=np.zeros((len(paths), len(like.classes)), bool),
        classes=like.classes,
        mpp=like.mpp,
        groups=names,
        split=("train",) * len(paths),
        glass=like.glass,
        masks=None,
        root=folder,
        format="unlabelled",
    )


def unlabelled(patches: PatchSet) -> PatchSet:
    """Return `patches` without what is known of them, as tiles to train on."""
    n = len(patches)
    labels = np.zeros((n, len(patches.classes)), bool)
    return replace(patches, labels=labels, masks=None, split=("train",) * n)


class UnlabelledTargets:
    """Targets of labelled patches; unlabelled tiles have none.

    Parameters
    ----------
    base
        Of the labelled patches, with `depths` masks each.
    depths
        D.
    tiles
        The unlabelled ones.
    """

    def __init__(self, base: TargetSource, depths: int, tiles: PatchSet):
        self._base, self._depths = base, depths
        self._tiles = dict(zip(tiles.names, tiles.paths, strict=True))

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D, H, W) class indices, 255 everywhere in an unlabelled tile."""
        if name not in self._tiles:
            return self._base.targets(name)
        return np.full((self._depths, *read_size(self._tiles[name])), IGNORE, np.uint8)


def with_tiles(
    train: PatchSet, targets: TargetSource, depths: int, tiles: PatchSet | None
) -> tuple[PatchSet, TargetSource]:
    """Return training patches and targets with unlabelled tiles behind them."""
    if tiles is None:
        return train, targets
    together = joined(replace(train, masks=None), tiles)
    return together, UnlabelledTargets(targets, depths, tiles)


def check_unlabelled(tiles: PatchSet | None, settings: SegmenterSettings) -> None:
    """Refuse unlabelled tiles that nothing would be learnt from.

    Raises
    ------
    TrainingError
        If no teacher labels them.
    DataError
        If some have a label, which would not be used.
    """
    if tiles is None:
        return
    if settings.teacher.relabel_from >= 1 or settings.teacher.unlabelled_share == 0:
        raise TrainingError(
            "Unlabelled tiles are learnt from a teacher's labels. Set teacher.decay = 0.97 and "
            "teacher.relabel_from = 0.3, and teacher.unlabelled_share above 0."
        )
    if tiles.labels.any():
        raise DataError(
            f"{int(tiles.labels.any(1).sum())} of the unlabelled tiles have a label. Add them to "
            "the labelled patches instead."
        )


def mixed_order(
    order: Sequence[Sequence[int]], labelled: int, tiles: int, share: float, seed: int
) -> list[list[int]]:
    """Replace the last patches of every batch by unlabelled tiles.

    Parameters
    ----------
    order
        Indices of labelled patches, a sequence for each batch.
    labelled, tiles
        How many there are; the indices of tiles come after those of labelled patches.
    share
        Of a batch; one labelled patch always stays.
    seed
        Of the epoch.
    """
    rng = np.random.default_rng((seed, 1))
    mixed = []
    for batch in order:
        n = min(round(share * len(batch)), len(batch) - 1)
        drawn = labelled + rng.integers(tiles, size=n)
        mixed.append([*batch[: len(batch) - n], *drawn.tolist()])
    return mixed
