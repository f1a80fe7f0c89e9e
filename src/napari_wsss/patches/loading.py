"""`load_patches`: find out what a folder or a table is, and load it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.patches.formats import folders, named, own, table
from napari_wsss.patches.formats.common import (
    LoadOptions,
    child_folders,
    image_files,
    normal_split,
)
from napari_wsss.patches.formats.table_file import TABLE_SUFFIXES
from napari_wsss.patches.patch_set import SPLITS, PatchSet
from napari_wsss.patches.presets import PRESETS

__all__ = ["FORMATS", "load_patches"]

_Loader = Callable[[Path, LoadOptions], PatchSet]
_RECOGNISE: dict[str, Callable[[Path], bool]] = {
    "named": named.recognise,
    "table": table.recognise,
    "folders": folders.recognise,
}
_LOAD: dict[str, _Loader] = {
    own.FORMAT: own.load,
    "named": named.load,
    "table": table.load,
    "folders": folders.load,
    **{key: partial(named.load, preset_key=key) for key in PRESETS},
}
#: What `format` may be.
FORMATS = tuple(_LOAD)

_UNDERSTOOD = """

What is understood:
  - a folder written by 'napari-wsss patches from-masks' (it holds dataset.toml)
  - labels in the file names, flat or in train/, with val/ and test/ as img/ and mask/:
      train/1031280-2300-27920-[1 0 0 1].png
      train/TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png
  - a table (CSV, TSV or Parquet; in a folder it is called labels.csv):
      path,group,tumour,stroma
      images/a.png,slide-1,1,0
  - a folder per class:
      tumour/a.png
      stroma/b.png"""


def load_patches(
    dataset: str | Path,
    *,
    classes: ClassTable | str | Path | None = None,
    mpp: float | None = None,
    split: str | None = None,
    masks: str | Path | None = None,
    format: str | None = None,  # noqa: A002 - the word users know
) -> PatchSet:
    """Load labelled patches.

    No image is opened. Masks are opened only for patches of released validation and test
    splits, whose labels stand nowhere else; ``split="train"`` avoids that too.

    Parameters
    ----------
    dataset
        A folder that `cut_patches` wrote; a folder as LUAD-HistoSeg, BCSS-WSSS or
        WSSS4LUAD are released; a CSV, TSV or Parquet table; or a folder per class.
    classes
        Class table or ``classes.toml`` file. By default that of the folder, else the
        released set's, the table's columns or the class folders.
    mpp
        µm/px of the patches; overrules what the set says.
    split
        Load only 'train', 'val' or 'test'.
    masks
        Folder with one ``<name>.png`` per patch, in the values of `classes`; replaces the
        masks of the set. The last part of the name alone will do where that is unique.
    format
        One of `FORMATS`, where a folder could be several things.

    Returns
    -------
    PatchSet
        Sorted by file name, or in the order of the table.

    Raises
    ------
    DataError
        If the set is not understood, empty, or any part of it is not usable. Messages list
        every offender, not only the first.
    """
    path = Path(dataset)
    table_of = ClassTable.read(classes) if isinstance(classes, str | Path) else classes
    if split is not None and split not in SPLITS:
        raise DataError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
    if format is not None and format not in FORMATS:
        raise DataError(f"There is no format {format!r}; the formats are {', '.join(FORMATS)}.")
    options = LoadOptions(table_of, mpp, split)
    if not path.exists():
        raise DataError(f"There is no patch set {path}.")
    found = _detect(path) if format is None else format
    if not _possible(path, found):
        raise DataError(f"{path} is not of the format {found!r}.{_UNDERSTOOD}")
    patches = _LOAD[found](path, options)
    if not len(patches):
        which = f" in the split {split!r}" if split else ""
        raise DataError(f"{path}: there are no patches{which}.{_UNDERSTOOD}")
    return patches if masks is None else _with_masks(patches, Path(masks))


def _detect(path: Path) -> str:
    """Return the format of `path`; DataError if it has none or several."""
    if path.is_file():
        if path.suffix.lower() in TABLE_SUFFIXES:
            return "table"
        raise DataError(f"{path} is neither a folder nor a table.{_UNDERSTOOD}")
    if own.recognise(path):
        return own.FORMAT
    fits = [name for name, recognise in _RECOGNISE.items() if recognise(path)]
    if fits == ["table", "folders"]:
        # Tables often list patches that are sorted into folders by slide.
        return "table"
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise DataError(
            f"{path} could be read in several ways: {', '.join(fits)}. Say which with "
            f"format={fits[0]!r}, or move what does not belong to the set."
        )
    raise DataError(f"{path} is not a patch set. It holds {_contents(path)}.{_UNDERSTOOD}")


def _possible(path: Path, found: str) -> bool:
    """Whether `path` is the kind of thing (file or folder) that the format needs."""
    if found == "table":
        return path.suffix.lower() in TABLE_SUFFIXES if path.is_file() else table.recognise(path)
    return path.is_dir() and (found != own.FORMAT or own.recognise(path))


def _contents(folder: Path) -> str:
    children = child_folders(folder)
    text = f"{len(image_files(folder))} images without labels and {len(children)} folders"
    if children:
        shown = ", ".join(child.name for child in children[:8])
        text += f" ({shown}{', ...' if len(children) > 8 else ''})"
    if any(child.name.lower() in {"mask", "masks"} for child in children):
        text += (
            ". Images with masks are not labelled patches yet: cut them with "
            "'napari-wsss patches from-masks'"
        )
    elif any(normal_split(child.name) for child in children):
        text += ", and no labels in the split folders"
    return text


def _with_masks(patches: PatchSet, folder: Path) -> PatchSet:
    """Attach the masks of `folder`; DataError lists the patches without one."""
    if not folder.is_dir():
        raise DataError(f"There is no folder of masks {folder}.")
    # Masks kept in one flat folder are found too, where file names alone are unique.
    flat = [name.rsplit("/", 1)[-1] for name in patches.names]
    unique = len(set(flat)) == len(flat)
    files = tuple(
        folder / f"{short if unique and not (folder / f'{name}.png').is_file() else name}.png"
        for name, short in zip(patches.names, flat, strict=True)
    )
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} patches have no mask in {folder}; these files "
            f"are missing:{listed(missing)}"
        )
    return replace(patches, masks=files)
