"""Changing a loaded patch set: names and colours of its classes, and its splits."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.files import write_atomic
from napari_wsss.patches.formats import own
from napari_wsss.patches.formats.common import CLASSES_FILE, name_of
from napari_wsss.patches.formats.table import RESERVED
from napari_wsss.patches.patch_set import PatchSet
from napari_wsss.patches.splitting import validation_groups

__all__ = ["keep_edits", "with_classes", "with_splits"]

_TABLE = "labels.csv"


def with_classes(patches: PatchSet, classes: ClassTable) -> PatchSet:
    """Return the set with other names and colours of its classes.

    Parameters
    ----------
    patches
        The set.
    classes
        As many classes in the same order, with the same mask values.

    Raises
    ------
    DataError
        If classes were added, removed or given other mask values, or a name cannot head a
        column of a label table.
    """
    old = patches.classes
    if len(classes) != len(old):
        raise DataError(f"The set has {len(old)} classes; names for {len(classes)} were given.")
    same_values = [c.value for c in classes.classes] == [c.value for c in old.classes]
    if not same_values or classes.ignore != old.ignore:
        raise DataError("Names and colours can be changed, the mask values of classes cannot.")
    bad = [name for name in classes.names if name in RESERVED or name != name.strip()]
    if bad:
        raise DataError(
            "Class names must not begin or end with a blank, nor be one of "
            f"{', '.join(RESERVED)}:{listed(map(repr, bad))}"
        )
    return replace(patches, classes=classes)


def with_splits(
    patches: PatchSet, val_share: float, test_share: float = 0.0, seed: int = 0
) -> PatchSet:
    """Return the set split anew, no group divided, with the classes in equal shares.

    Parameters
    ----------
    patches
        The set; the splits it had are given up.
    val_share, test_share
        Shares of all patches, 0 to below 1, together below 1; met as well as groups allow.
    seed
        The same seed gives the same splits.

    Raises
    ------
    DataError
        If the shares are out of bounds, or no group can be spared for a split.
    """
    if not (val_share >= 0 and test_share >= 0 and val_share + test_share < 1):
        raise DataError(
            f"The shares held out are {val_share:.0%} and {test_share:.0%}; together they must "
            "leave patches to train on."
        )
    split = np.full(len(patches), "train", dtype=object)
    groups = np.array(patches.groups, dtype=object)
    for name, share in (("test", test_share), ("val", val_share)):
        rest = np.flatnonzero(split == "train")
        held = validation_groups(
            patches.labels[rest],
            groups[rest].tolist(),
            share * len(patches) / max(len(rest), 1),
            seed,
            patches.classes.names,
        )
        split[rest] = [name if groups[i] in held else "train" for i in rest]
    return replace(patches, split=tuple(split.tolist()))


def keep_edits(patches: PatchSet) -> bool:
    """Write classes and splits into the folder of the set, if it is of this package's format.

    Rows of patches that are not in `patches` keep their split, so that a part of a set can be
    kept, too.

    Returns
    -------
    bool
        False for sets of other formats, whose files are never changed.

    Raises
    ------
    DataError
        If the table there is not the one that was loaded.
    OutputError
        If it cannot be written.
    """
    if patches.format != own.FORMAT:
        return False
    folder = patches.root
    old = ClassTable.read(folder / CLASSES_FILE)
    text = _table(folder / _TABLE, patches, old)
    write_atomic(folder / _TABLE, text.encode())
    if patches.classes != old:
        import tomli_w

        toml = tomli_w.dumps(patches.classes.to_dict())
        write_atomic(folder / CLASSES_FILE, toml.encode())
    return True


def _table(path: Path, patches: PatchSet, old: ClassTable) -> str:
    """Return the label table with the names and splits of `patches`."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    names = dict(zip(old.names, patches.classes.names, strict=False))
    splits = dict(zip(patches.names, patches.split, strict=True))
    if len(old) != len(patches.classes) or not {"path", *old.names} <= set(header):
        raise DataError(f"{path} was changed since the set was loaded. Load it again.")
    at = header.index("path")
    if "split" not in header:
        header, rows = [*header, "split"], [[*row, "train"] for row in rows]
    split_at = header.index("split")
    for row in rows:
        name = name_of(row[at]).removeprefix("images/")
        row[split_at] = splits.get(name, row[split_at])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([names.get(column, column) for column in header])
    table.writerows(rows)
    return text.getvalue()
