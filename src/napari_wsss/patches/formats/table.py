"""A table of patches: a column ``path`` and one 0/1 column per class.

Optional columns: ``group``, ``split``, ``mask`` and ``mpp``. Paths are relative to the
table.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats.common import (
    LoadOptions,
    name_of,
    normal_split,
    one_mpp,
    read_classes,
)
from napari_wsss.patches.formats.table_file import read_table
from napari_wsss.patches.names import group_of
from napari_wsss.patches.patch_set import PatchSet, default_glass

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RESERVED", "TABLE_NAMES", "load", "recognise"]

#: Columns with a meaning of their own; no class can be called so.
RESERVED = ("path", "group", "split", "mask", "mpp")
#: A folder with one of these files is a table.
TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.parquet")

_ZERO_ONE = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}


def recognise(folder: Path) -> bool:
    """Whether `folder` holds a table of labels."""
    return any((folder / name).is_file() for name in TABLE_NAMES)


def load(
    path: Path,
    options: LoadOptions,
    *,
    name: Callable[[str], str] = name_of,
) -> PatchSet:
    """Load the patches that a table lists.

    Parameters
    ----------
    path
        CSV, TSV or Parquet file, or a folder with one of `TABLE_NAMES`.
    options
        Class table, µm/px and split, where the caller gives them.
    name
        Makes a patch's name from its entry in the column ``path``.

    Returns
    -------
    PatchSet
        In the order of the table.

    Raises
    ------
    DataError
        If a column is missing or unknown, a value is not 0 or 1, or a file is missing;
        every offender is listed with its row.
    """
    if path.is_dir():
        path = next(path / n for n in TABLE_NAMES if (path / n).is_file())
    table = read_table(path)
    root = path.parent
    classes = _classes(table, path, read_classes(root, options))
    problems: list[str] = []
    labels = np.zeros((len(table), len(classes)), bool)
    for k, column in enumerate(classes.names):
        values = table[column].str.strip().str.lower().map(_ZERO_ONE)
        bad = table[column][values.isna()]
        problems += [
            f"row {row}, column {column!r}: {v!r} is not 0 or 1" for row, v in bad.items()
        ]
        labels[:, k] = values.fillna(0).to_numpy() > 0
    files = [file or root for file in _files(table, "path", root, problems)]
    masks = tuple(_files(table, "mask", root, problems)) if "mask" in table else ()
    splits = _splits(table, problems)
    mpps = _mpps(table, problems)
    names = [name(entry) for entry in table["path"]]
    seen: dict[str, object] = {}
    for row, patch in zip(table.index, names, strict=True):
        if patch in seen:
            problems.append(f"row {row}: {patch!r} stands in row {seen[patch]} already")
        seen.setdefault(patch, row)
    if problems:
        raise DataError(f"{path}: {len(problems)} entries are not usable:{listed(problems)}")

    given = table["group"].str.strip() if "group" in table else [""] * len(table)
    groups = [
        group or group_of(file.stem) or patch
        for group, file, patch in zip(given, files, names, strict=True)
    ]
    patches = PatchSet(
        paths=tuple(files),
        names=tuple(names),
        labels=labels,
        classes=classes,
        mpp=one_mpp(mpps, options, path),
        groups=tuple(groups),
        split=tuple(splits),
        glass=default_glass(classes),
        masks=masks if any(masks) else None,
        root=root,
        format="table",
    )
    if options.split is None:
        return patches
    return patches.of_split(options.split)


def _classes(table: pd.DataFrame, path: Path, given: ClassTable | None) -> ClassTable:
    """Return the classes: the given table's if the columns fit, else the columns."""
    columns = [c for c in table.columns if c not in RESERVED]
    if "path" not in table:
        raise DataError(
            f"{path}: there is no column 'path'. The columns are: {', '.join(table.columns)}. "
            "A table of patches begins like this:\n\n  path,group,tumour,stroma\n"
            "  images/a.png,slide-1,1,0"
        )
    if given is None:
        if len(columns) < 2:
            raise DataError(
                f"{path}: {len(columns)} class columns ({', '.join(columns)}); at least two are "
                f"needed, beside {', '.join(RESERVED)}."
            )
        return ClassTable.from_names(columns)
    problems = [f"column {c!r} is no class of the table" for c in columns if c not in given.names]
    problems += [f"class {c!r} has no column" for c in given.names if c not in columns]
    if problems:
        raise DataError(
            f"{path}: the columns do not fit the classes {', '.join(given.names)}:"
            f"{listed(problems)}"
        )
    return given


def _files(table: pd.DataFrame, column: str, root: Path, problems: list[str]) -> list[Path | None]:
    """Return the files of a column, None for empty cells (a problem in 'path')."""
    files: list[Path | None] = []
    for row, text in table[column].str.strip().items():
        if not text:
            files.append(None)
            if column == "path":
                problems.append(f"row {row}: the path is empty")
            continue
        file = root / text
        if "\\" in text and not file.is_file():
            file = root / text.replace("\\", "/")
        if not file.is_file():
            problems.append(f"row {row}: there is no file {file}")
        files.append(file)
    return files


def _splits(table: pd.DataFrame, problems: list[str]) -> list[str]:
    if "split" not in table:
        return ["train"] * len(table)
    splits = []
    for row, text in table["split"].items():
        split = normal_split(text) if text.strip() else "train"
        if split is None:
            problems.append(f"row {row}: split {text!r} is none of train, val, test")
        splits.append(split or "train")
    return splits


def _mpps(table: pd.DataFrame, problems: list[str]) -> list[float]:
    if "mpp" not in table:
        return []
    values = []
    for row, text in table["mpp"].items():
        if not text.strip():
            continue
        try:
            values.append(float(text))
        except ValueError:
            problems.append(f"row {row}: mpp {text!r} is not a number")
    return values
