"""Checks of classes and splits that `cut_patches` is given, before any file is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats.table import RESERVED
from napari_wsss.patches.patch_set import SPLITS

__all__ = ["check_class_names", "check_cuttable", "splits_of"]


def check_cuttable(classes: ClassTable) -> None:
    """Check that masks can be read with `classes` and a table written; DataError if not."""
    if not classes.has_values:
        raise DataError(
            "The class table has no mask values, so masks cannot be read with it. Add "
            "'value = ...' to every [[class]]."
        )
    check_class_names(classes)


def check_class_names(classes: ClassTable) -> None:
    """Check that every class can head a column of the label table; DataError if not."""
    bad = [name for name in classes.names if name in RESERVED or name != name.strip()]
    if bad:
        raise DataError(
            "Class names that cannot head a column of the label table, because they begin or "
            f"end with a blank or are one of {', '.join(RESERVED)}:{listed(map(repr, bad))}"
        )


def splits_of(keys: Sequence[str], split: str | Mapping[str, str] | None) -> dict[str, str]:
    """Return the split of each image by its key.

    Raises
    ------
    DataError
        Listing images without a split, or splits that do not exist.
    """
    if split is None or isinstance(split, str):
        by_key = dict.fromkeys(keys, split or "train")
    else:
        missing = [key for key in keys if key not in split]
        if missing:
            raise DataError(f"Images that no split is given for:{listed(missing)}")
        by_key = {key: split[key] for key in keys}
    wrong = sorted({s for s in by_key.values() if s not in SPLITS})
    if wrong:
        raise DataError(f"Splits that are none of {', '.join(SPLITS)}:{listed(wrong)}")
    return by_key
