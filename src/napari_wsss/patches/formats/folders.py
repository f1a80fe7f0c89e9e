"""A folder per class: the images in it carry that class and no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats.common import (
    LoadOptions,
    child_folders,
    image_files,
    name_of,
    normal_split,
    read_classes,
    split_folders,
)
from napari_wsss.patches.names import group_of
from napari_wsss.patches.patch_set import PatchSet, default_glass

__all__ = ["load", "recognise"]

# Names of folders that hold images or masks of a set, never a class.
_PARTS = frozenset({"img", "imgs", "image", "images", "mask", "masks", "label", "labels"})


def recognise(folder: Path) -> bool:
    """Whether `folder`, or each split folder in it, holds class folders with images."""
    places = list(split_folders(folder).values()) or [folder]
    return any(_class_folders(place) for place in places) and not any(
        child.name.lower() in _PARTS for place in places for child in child_folders(place)
    )


def load(folder: Path, options: LoadOptions) -> PatchSet:
    """Load a folder per class, optionally below ``train``, ``val`` and ``test``.

    Raises
    ------
    DataError
        If a folder is no class of the given table, or images lie outside class folders.
    """
    by_split = {
        split: _class_folders(place)
        for split, place in (split_folders(folder) or {"train": folder}).items()
    }
    classes = _classes(folder, options, by_split)
    paths: list[Path] = []
    split_of: list[str] = []
    columns: list[int] = []
    for split, children in by_split.items():
        if options.split not in (None, split):
            continue
        for child in children:
            images = image_files(child, recursive=True)
            paths += images
            split_of += [split] * len(images)
            columns += [classes.index(child.name)] * len(images)
    labels = np.zeros((len(paths), len(classes)), bool)
    labels[np.arange(len(paths)), columns] = True
    names = tuple(name_of(path.relative_to(folder).as_posix()) for path in paths)
    return PatchSet(
        paths=tuple(paths),
        names=names,
        labels=labels,
        classes=classes,
        mpp=options.mpp,
        groups=tuple(group_of(p.stem) or n for p, n in zip(paths, names, strict=True)),
        split=tuple(split_of),
        glass=default_glass(classes),
        masks=None,
        root=folder,
        format="folders",
    )


def _classes(
    folder: Path, options: LoadOptions, by_split: Mapping[str, Sequence[Path]]
) -> ClassTable:
    """Return the classes, given or found; DataError lists what is no image of one of them."""
    problems = _outside(folder)
    found = sorted({child.name for children in by_split.values() for child in children})
    classes = read_classes(folder, options)
    if classes is None:
        if len(found) < 2:
            raise DataError(
                f"{folder}: {len(found)} class folder(s) with images ({', '.join(found)}); at "
                "least two are needed."
            )
        classes = ClassTable.from_names(found)
    problems += [
        f"{name}: not a class of the table ({', '.join(classes.names)})"
        for name in found
        if name not in classes.names
    ]
    if problems:
        raise DataError(f"{folder}: not one folder per class:{listed(problems)}")
    return classes


def _outside(folder: Path) -> list[str]:
    """Return a sentence for each folder and image that is where no class folder can be."""
    splits = split_folders(folder)
    problems = []
    if splits:
        problems += [
            f"{child.name}: neither a split nor inside one"
            for child in child_folders(folder)
            if normal_split(child.name) is None and image_files(child, recursive=True)
        ]
    for place in {folder, *splits.values()}:
        problems += [f"{p.relative_to(folder)}: not in a class folder" for p in image_files(place)]
    return problems


def _class_folders(place: Path) -> list[Path]:
    return [child for child in child_folders(place) if image_files(child, recursive=True)]
