"""PatchSet: labelled patches as one plain object that every stage takes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.images import read_mask_values, read_rgb, read_size
from napari_wsss.patches.names import MPP_RANGE
from napari_wsss.patches.splitting import validation_groups

__all__ = ["SPLITS", "Glass", "PatchSet", "default_glass"]

Glass = Literal["ignore", "tissue"]
#: Names of the splits, in their usual order.
SPLITS = ("train", "val", "test")


def default_glass(classes: ClassTable) -> Glass:
    """Return the rule of ``glass='auto'``: white is no class where some mask value is none."""
    return "ignore" if classes.ignore else "tissue"


@dataclass(frozen=True, eq=False)
class PatchSet:
    """Patches with the classes that occur in each of them.

    Nothing is decoded before `read` or `read_mask` is called.

    Attributes
    ----------
    paths
        N image files.
    names
        N unique names: the path inside the set without suffix, '/' between folders. Files
        made per patch are called ``<name>.png``; a name may contain dots.
    labels
        (N, K) bool, read-only: which classes occur in which patch.
    classes
        The K classes.
    mpp
        µm/px of the patches; None where it is unknown (it is never assumed).
    groups
        N names of a slide, patient or source image. Splits never divide a group.
    split
        N times 'train', 'val' or 'test'; 'train' where the set has no splits.
    glass
        'ignore': white pixels are no class; 'tissue': they are tissue like the rest.
    masks
        N mask files in the values of `classes`, None for single patches without one;
        None as a whole for sets without masks.
    root
        The folder (or the table's folder) the set was loaded from.
    format
        Where the labels came from: 'napari-wsss', 'table', 'folders', 'named' or a preset.

    Raises
    ------
    DataError
        If the parts do not fit together; every offender is listed.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: NDArray[np.bool_]
    classes: ClassTable
    mpp: float | None
    groups: tuple[str, ...]
    split: tuple[str, ...]
    glass: Glass
    masks: tuple[Path | None, ...] | None
    root: Path
    format: str

    def __post_init__(self) -> None:
        n = len(self.paths)
        labels = np.asarray(self.labels)
        problems = []
        if labels.shape != (n, len(self.classes)):
            problems.append(
                f"labels have shape {labels.shape}; {n} patches and {len(self.classes)} "
                f"classes need {(n, len(self.classes))}"
            )
        for field in ("names", "groups", "split", "masks"):
            value = getattr(self, field)
            if value is not None and len(value) != n:
                problems.append(f"{field}: {len(value)} entries for {n} patches")
        counts = Counter(self.names)
        problems += [f"name {x!r} stands for {c} patches" for x, c in counts.items() if c > 1]
        problems += [f"split {s!r} is none of {SPLITS}" for s in sorted({*self.split} - {*SPLITS})]
        if self.glass not in ("ignore", "tissue"):
            problems.append(f"glass {self.glass!r} is neither 'ignore' nor 'tissue'")
        low, high = MPP_RANGE
        if self.mpp is not None and not low <= self.mpp <= high:
            problems.append(
                f"{self.mpp} µm/px is outside {low} to {high}; leave it out if unknown"
            )
        if problems:
            raise DataError(f"The patch set {self.root} is not valid:{listed(problems)}")
        labels = labels.astype(bool)
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return (
            f"PatchSet({len(self)} patches, classes {', '.join(self.classes.names)}, "
            f"{self.format!r} in {self.root})"
        )

    # -- pixels ---------------------------------------------------------------------

    def read(self, i: int) -> NDArray[np.uint8]:
        """Read patch `i`.

        Returns
        -------
        NDArray[np.uint8]
            RGB, shape (H, W, 3).

        Raises
        ------
        DataError
            If the file cannot be read as an 8-bit image.
        """
        return read_rgb(self.paths[i])

    def read_mask(self, i: int, masks_dir: str | Path | None = None) -> NDArray[np.uint8]:
        """Read the mask of patch `i` as class indices.

        Parameters
        ----------
        i
            Index of the patch.
        masks_dir
            Folder of ``<name>.png`` files in the values of `classes`; by default the masks
            that belong to the set.

        Returns
        -------
        NDArray[np.uint8]
            Class indices, shape (H, W) of the patch; 255 for pixels that are no class.

        Raises
        ------
        DataError
            If there is no mask, it cannot be read, or its size is not the patch's.
        """
        if masks_dir is not None:
            path: Path | None = Path(masks_dir) / f"{self.names[i]}.png"
        else:
            path = self.masks[i] if self.masks is not None else None
        if path is None:
            raise DataError(f"Patch {self.names[i]!r} of {self.root} has no mask.")
        values = read_mask_values(path)
        size = read_size(self.paths[i])
        if values.shape != size:
            raise DataError(
                f"{path}: the mask has {values.shape[1]} x {values.shape[0]} px, its patch "
                f"{size[1]} x {size[0]} px. They must be equal."
            )
        return self.classes.to_indices(values)

    # -- parts ----------------------------------------------------------------------

    @property
    def single_label(self) -> NDArray[np.bool_]:
        """(N,) bool: patches in which exactly one class occurs."""
        return self.labels.sum(1) == 1

    @property
    def class_groups(self) -> list[set[str]]:
        """For each class the groups in whose patches it occurs."""
        groups = np.array(self.groups, dtype=object)
        return [set(groups[has]) for has in self.labels.T]

    def subset(self, indices: Sequence[int] | NDArray[np.integer | np.bool_]) -> PatchSet:
        """Return the patches at `indices` (integers, or an (N,) bool mask), in that order."""
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        order = [int(i) for i in chosen]
        return replace(
            self,
            paths=tuple(self.paths[i] for i in order),
            names=tuple(self.names[i] for i in order),
            labels=self.labels[order].reshape(len(order), len(self.classes)),
            groups=tuple(self.groups[i] for i in order),
            split=tuple(self.split[i] for i in order),
            masks=None if self.masks is None else tuple(self.masks[i] for i in order),
        )

    def of_split(self, name: str) -> PatchSet:
        """Return the patches of the split 'train', 'val' or 'test'; it may be empty."""
        if name not in SPLITS:
            raise DataError(f"There is no split {name!r}; the splits are {', '.join(SPLITS)}.")
        return self.subset(np.array([s == name for s in self.split], bool))

    def train(self) -> PatchSet:
        """Return the patches of the training split."""
        return self.of_split("train")

    def split_groups(self, share: float, seed: int) -> tuple[PatchSet, PatchSet]:
        """Hold out whole groups for validation, with the classes in equal shares.

        Parameters
        ----------
        share
            Share of the patches to hold out, 0 to below 1; met as well as groups allow.
        seed
            The same seed gives the same split.

        Returns
        -------
        tuple[PatchSet, PatchSet]
            Training and validation patches; no group is in both, and every class that
            occurs stays in training. With ``share=0`` the second is empty.

        Raises
        ------
        DataError
            If no group can be spared.
        """
        held = validation_groups(self.labels, self.groups, share, seed, self.classes.names)
        out = np.array([g in held for g in self.groups], bool)
        train, val = self.subset(~out), self.subset(out)
        return (
            replace(train, split=("train",) * len(train)),
            replace(val, split=("val",) * len(val)),
        )

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of names, labels, classes and file sizes in bytes: changes with the set."""
        digest = hashlib.sha256()
        digest.update(repr((self.classes.to_dict(), self.labels.shape)).encode())
        digest.update(np.packbits(self.labels).tobytes())
        for name, path in zip(self.names, self.paths, strict=True):
            try:
                size = path.stat().st_size
            except OSError:
                size = -1
            digest.update(f"{name}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()
