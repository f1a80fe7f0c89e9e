"""What the layouts share: listing folders, options, and classes from masks."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.images import IMAGE_SUFFIXES, read_mask_values

__all__ = [
    "CLASSES_FILE",
    "MIN_SHARE",
    "LoadOptions",
    "child_folders",
    "class_presence",
    "image_files",
    "labels_from_masks",
    "name_of",
    "normal_split",
    "one_mpp",
    "read_classes",
    "split_folders",
]

CLASSES_FILE = "classes.toml"
#: A class is present where it covers at least this share of all pixels of a patch.
MIN_SHARE = 0.05

_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class LoadOptions:
    """What the caller of `load_patches` has decided; None where the files decide.

    Attributes
    ----------
    classes
        Class table.
    mpp
        µm/px.
    split
        The only split wanted.
    """

    classes: ClassTable | None = None
    mpp: float | None = None
    split: str | None = None


def normal_split(text: str) -> str | None:
    """Return 'train', 'val' or 'test' for the usual spellings ('1.training'), else None."""
    return _SPLIT_NAMES.get(re.sub(r"^\d+[._\- ]*", "", text.strip()).lower())


def image_files(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Return the image files in `folder`, sorted; hidden files and folders are left out."""
    found: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    if recursive:
                        found += image_files(Path(entry.path), recursive=True)
                elif os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                    found.append(Path(entry.path))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
    return found


def child_folders(folder: Path) -> list[Path]:
    """Return the folders in `folder`, sorted, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")
            )
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be listed: {error.strerror}.") from error


def split_folders(folder: Path) -> dict[str, Path]:
    """Return the folders of `folder` that are named after a split.

    Raises
    ------
    DataError
        If two folders are the same split ('val' and 'validation').
    """
    found: dict[str, Path] = {}
    for child in child_folders(folder):
        split = normal_split(child.name)
        if split is None:
            continue
        if split in found:
            raise DataError(
                f"{folder}: both {found[split].name!r} and {child.name!r} are the split "
                f"{split!r}. Keep one of them."
            )
        found[split] = child
    return found


def name_of(path: str | Path) -> str:
    """Return a patch's name: `path` without suffix, and without ways out of its folder.

    Examples
    --------
    >>> name_of("train/a.b.png"), name_of("../elsewhere/c.png"), name_of("/data/c.png")
    ('train/a.b', 'elsewhere/c', 'data/c')
    """
    pure = PurePosixPath(str(path).replace("\\", "/"))
    parts = [part for part in pure.parts if part not in {"/", "..", "."}]
    if parts:
        parts[-1] = PurePosixPath(parts[-1]).stem
    return "/".join(part.replace(":", "") for part in parts)


def read_classes(folder: Path, options: LoadOptions) -> ClassTable | None:
    """Return the given class table, else that of ``classes.toml`` in `folder`, else None."""
    if options.classes is not None:
        return options.classes
    path = folder / CLASSES_FILE
    return ClassTable.read(path) if path.exists() else None


def one_mpp(values: Sequence[float], options: LoadOptions, where: Path) -> float | None:
    """Return the µm/px that all patches share; the caller's takes precedence.

    Raises
    ------
    DataError
        If the patches have several.
    """
    if options.mpp is not None:
        return options.mpp
    distinct = sorted(set(values))
    if len(distinct) > 1:
        raise DataError(
            f"{where}: patches of {len(distinct)} resolutions ({distinct[0]} to {distinct[-1]} "
            "µm/px). A model learns one: make a set of each, or give mpp to overrule them."
        )
    return distinct[0] if distinct else None


def class_presence(
    indices: NDArray[np.uint8], n_classes: int, min_share: float
) -> NDArray[np.bool_]:
    """Return (K,) bool: the classes that cover `min_share` of *all* pixels of a window.

    Ignored pixels count as pixels, so a class is not called present because the rest of
    the window is glass. At least one pixel is needed whatever the share.

    Parameters
    ----------
    indices
        Class indices, any shape, 255 for pixels that are no class.
    n_classes
        K.
    min_share
        0 to 1.
    """
    counts = np.bincount(indices.reshape(-1), minlength=256)[:n_classes]
    return counts >= max(1.0, min_share * indices.size - 1e-6)


def labels_from_masks(masks: Sequence[Path], classes: ClassTable) -> NDArray[np.bool_]:
    """Return (N, K) bool: the classes that cover at least `MIN_SHARE` of each mask.

    Raises
    ------
    DataError
        Listing every mask that cannot be read.
    """
    lookup = classes.lookup()

    def presence(path: Path) -> NDArray[np.bool_] | str:
        try:
            return class_presence(lookup[read_mask_values(path)], len(classes), MIN_SHARE)
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = list(pool.map(presence, masks, chunksize=64))
    bad = [row for row in rows if isinstance(row, str)]
    if bad:
        raise DataError(f"{len(bad)} of {len(masks)} masks cannot be read:{listed(bad)}")
    return np.array(rows, bool).reshape(len(masks), len(classes))
