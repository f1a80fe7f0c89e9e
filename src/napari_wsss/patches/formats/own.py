"""The folder that `cut_patches` writes.

``images/*.png``, ``masks/*.png``, ``labels.csv``, ``classes.toml`` and ``dataset.toml``,
which is written last and says how the patches were made.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_wsss.errors import DataError
from napari_wsss.patches.formats import table
from napari_wsss.patches.formats.common import LoadOptions, name_of
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["DATASET_FILE", "FORMAT", "VERSION", "load", "read_header", "recognise"]

DATASET_FILE = "dataset.toml"
FORMAT = "napari-wsss"
VERSION = 1


def recognise(folder: Path) -> bool:
    """Whether `folder` was written by `cut_patches`."""
    return (folder / DATASET_FILE).is_file()


def read_header(folder: Path) -> dict[str, Any]:
    """Read ``dataset.toml``.

    Raises
    ------
    DataError
        If it cannot be read, is not ours, or is of a newer version.
    """
    path = folder / DATASET_FILE
    try:
        header = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"{path} cannot be read as TOML: {error}") from error
    if header.get("format") != FORMAT:
        raise DataError(f"{path} was not written by napari-wsss (no format = {FORMAT!r}).")
    if header.get("version") != VERSION:
        raise DataError(
            f"{path} has version {header.get('version')!r}; this napari-wsss reads version "
            f"{VERSION}. Update napari-wsss, or cut the patches again."
        )
    return header


def load(folder: Path, options: LoadOptions) -> PatchSet:
    """Load a folder that `cut_patches` wrote.

    Raises
    ------
    DataError
        If its header, table, images or masks are missing or not as they were written.
    """
    header = read_header(folder)
    mpp = header.get("mpp")
    if mpp is not None and (isinstance(mpp, bool) or not isinstance(mpp, int | float)):
        raise DataError(f"{folder / DATASET_FILE}: mpp = {mpp!r} is not a number.")
    if not (folder / "labels.csv").is_file():
        raise DataError(f"{folder}: labels.csv is missing. Cut the patches again.")
    if options.mpp is None and mpp is not None:
        options = replace(options, mpp=float(mpp))
    patches = table.load(folder, options, name=_name)
    masks = tuple(folder / "masks" / f"{name}.png" for name in patches.names)
    present = [mask.is_file() for mask in masks]
    return replace(
        patches,
        glass=header.get("glass", patches.glass),
        masks=tuple(m if there else None for m, there in zip(masks, present, strict=True))
        if any(present)
        else None,
        format=FORMAT,
    )


def _name(entry: str) -> str:
    """Name patches inside ``images``, so that ``masks/<name>.png`` is the mask."""
    return name_of(entry).removeprefix("images/")
