"""What the segmenter learns from besides pseudo masks: true masks, alone or among them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.cams import PseudoMasks
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches import PatchSet, joined
from napari_wsss.training.batches import UNSURE

__all__ = [
    "ForTeacher",
    "MixedTargets",
    "Targets",
    "TrueMasks",
    "exact_targets",
    "leaves_out_uncertain",
    "with_corrections",
]


class TrueMasks:
    """The masks of a patch set (or of `folder`) as targets of the same trainer.

    Parameters
    ----------
    patches
        A set with masks.
    folder
        Masks named as the patches, when they are kept elsewhere.

    Raises
    ------
    DataError
        If neither is there, masks are missing (all are listed), or the class table does not
        say what their values mean.

    Attributes
    ----------
    patches : PatchSet
        The set with these masks as its own.
    """

    supervision = "true masks"

    def __init__(self, patches: PatchSet, folder: Path | None = None):
        if folder is not None:
            files = tuple(Path(folder) / f"{name}.png" for name in patches.names)
            patches = replace(patches, masks=files)
        if patches.masks is None:
            raise DataError(f"{patches.root} has no masks; name their folder with --masks.")
        patches.classes.lookup()
        missing = [
            name if path is None else path
            for name, path, split in zip(patches.names, patches.masks, patches.split, strict=True)
            if split != "test" and (path is None or not path.is_file())
        ]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(patches)} patches have no mask:{listed(missing)}"
            )
        self.patches = patches
        self._index = {name: i for i, name in enumerate(patches.names)}
        self.depths = 1
        sizes = [p.stat().st_size for p in patches.masks if p is not None and p.is_file()]
        self.fingerprint = f"true masks {folder or patches.root} {sizes}"

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.patches.classes

    def has(self, name: str) -> bool:
        """Whether there is a mask of the patch called `name`."""
        return name in self._index

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (1, H, W) class indices of the patch called `name`."""
        if name not in self._index:
            raise DataError(f"There is no mask of patch {name!r}.")
        return self.patches.read_mask(self._index[name])[None]


class MixedTargets:
    """True masks of corrected patches, other targets of the rest.

    Make them with `with_corrections`, which joins the patches too.

    Parameters
    ----------
    base
        Targets of the patches that were not corrected.
    corrections
        Patches with masks.

    Raises
    ------
    DataError
        If a corrected patch has no mask.
    """

    def __init__(self, base: PseudoMasks | TrueMasks, corrections: PatchSet):
        self.base = base
        self.true = TrueMasks(corrections)
        masks = hashlib.sha256()
        for path in self.true.patches.masks or ():
            masks.update(path.read_bytes() if path is not None and path.is_file() else b"")
        # Unlike a data set, corrections change while one works: by content, not by size.
        self.fingerprint = f"{base.fingerprint} {corrections.fingerprint} {masks.hexdigest()}"

    @property
    def supervision(self) -> str:
        """What a model says it was trained from."""
        if isinstance(self.base, TrueMasks):
            return self.base.supervision
        return f"{self.base.supervision} and {len(self.true.patches)} true masks"

    @property
    def classes(self) -> ClassTable:
        """The classes of the masks."""
        return self.base.classes

    @property
    def depths(self) -> int:
        """Number of masks per patch, D."""
        return self.base.depths

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D, H, W) class indices; a true mask is that of every depth."""
        if self.true.has(name):
            return np.repeat(self.true.targets(name), self.depths, axis=0)
        return self.base.targets(name)


Targets = PseudoMasks | TrueMasks | MixedTargets


class ForTeacher:
    """Targets in which tissue without a class is marked, so that a teacher may label it.

    Parameters
    ----------
    base
        What the segmenter learns from.
    """

    def __init__(self, base: Targets):
        self._base = base

    def targets(self, name: str) -> NDArray[np.uint8]:
        """Return (D, H, W) class indices; `UNSURE` where pseudo masks were too uncertain."""
        targets, base = self._base.targets(name), self._base
        if isinstance(base, MixedTargets) and not base.true.has(name):
            base = base.base
        if isinstance(base, PseudoMasks):
            targets = np.where(base.unsure(name), np.uint8(UNSURE), targets)
        return targets


def exact_targets(patches: PatchSet, targets: Targets) -> NDArray[np.bool_]:
    """Return (N,) bool: the patches whose targets are right whatever the maps were.

    Those are patches with a true mask, and patches with one label, whose mask is constant.
    """
    if isinstance(targets, TrueMasks):
        return np.ones(len(patches), bool)
    exact = patches.single_label
    if isinstance(targets, MixedTargets):
        true = np.array([targets.true.has(name) for name in patches.names], bool)
        return exact | true | exact_targets(patches, targets.base)
    return exact


def leaves_out_uncertain(targets: Targets) -> bool:
    """Whether what is uncertain has no class, so that the rest can be relied on."""
    if isinstance(targets, MixedTargets):
        targets = targets.base
    return isinstance(targets, PseudoMasks) and targets.certainty > 0


def with_corrections(
    patches: PatchSet, targets: PseudoMasks | TrueMasks, corrections: PatchSet
) -> tuple[PatchSet, MixedTargets]:
    """Add corrected patches with true masks to a training set.

    Parameters
    ----------
    patches, targets
        The training set, and its pseudo masks or true masks.
    corrections
        Patches with masks, such as `read_corrections` returns; they are trained on.

    Returns
    -------
    tuple[PatchSet, MixedTargets]
        What `train_segmenter` takes.

    Raises
    ------
    DataError
        If classes or µm/px differ, a name occurs in both, or a corrected patch has no mask.
    """
    together = joined(replace(patches, masks=None), replace(corrections, masks=None))
    return together, MixedTargets(targets, corrections)
