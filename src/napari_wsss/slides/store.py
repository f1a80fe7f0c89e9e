"""The folder of a result: created, recognised as ours, and never taken from anyone else."""

from __future__ import annotations

import shutil
from pathlib import Path

import zarr

import napari_wsss
from napari_wsss.errors import OutputError
from napari_wsss.slides import ngff
from napari_wsss.slides.pyramid import writing
from napari_wsss.slides.readers.base import FOREIGN_ERRORS

__all__ = ["check_free", "create_store", "is_own_store", "new_group"]


def is_own_store(path: Path) -> bool:
    """Whether `path` is a zarr group that this package wrote."""
    try:
        return ngff.KEY in dict(zarr.open_group(str(path), mode="r").attrs)
    except FOREIGN_ERRORS:
        return False


def check_free(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError unless a result may be written to `path`.

    It may if nothing is there, or an empty folder, or, with `overwrite`, an earlier result of
    this package.
    """
    with writing(path):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
        if not overwrite:
            raise OutputError(
                f"{path} exists already. Choose another name, or allow overwriting (--overwrite)."
            )
    if not is_own_store(path):
        raise OutputError(
            f"{path} is not a result of napari-wsss, so it is not overwritten. Choose another "
            "name, or delete it yourself."
        )


def create_store(path: str | Path, *, overwrite: bool = False) -> zarr.Group:
    """Create the zarr group of a new result.

    Parameters
    ----------
    path
        A folder that does not exist or is empty.
    overwrite
        Delete an earlier result of this package there; anything else is never deleted.

    Returns
    -------
    zarr.Group
        Format 3, marked as ours.

    Raises
    ------
    OutputError
        If something exists there, or the folder cannot be written.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    with writing(path):
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        return new_group(path)


def new_group(path: Path) -> zarr.Group:
    """Create the zarr group of a result, format 3 and marked as ours, in a folder made for it.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with writing(path):
        return zarr.create_group(
            str(path), zarr_format=3, attributes={ngff.KEY: {"version": napari_wsss.__version__}}
        )
