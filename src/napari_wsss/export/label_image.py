"""Labels as an OME-Zarr label image with names and colours of their classes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from uuid import uuid4

from napari_wsss.classes import ClassTable
from napari_wsss.errors import OutputError
from napari_wsss.export.blocks import NOT_COMPUTED, LabelArray, iter_blocks
from napari_wsss.slides import create_pyramid
from napari_wsss.slides.pyramid import writing
from napari_wsss.slides.store import is_own_store

__all__ = ["export_ome_zarr"]

#: Blocks are whole chunks, so that none is read back to be patched.
_CHUNK_PX, _BLOCK_PX = 512, 2048
_RUN_FILE = "run.json"


def export_ome_zarr(
    labels: LabelArray,
    path: str | Path,
    classes: ClassTable,
    *,
    mpp: float | None = None,
    translation_px: tuple[float, float] = (0.0, 0.0),
    overwrite: bool = False,
) -> Path:
    """Write labels as an OME-Zarr 0.5 label image with coarser levels.

    Parameters
    ----------
    labels
        Shape (H, W), uint8: class index + 1, 0 background, 255 not computed. Read block by
        block; may be what `path` holds now.
    path
        The folder to write, ``NAME.ome.zarr``. It appears when it is complete.
    classes
        Names and colours.
    mpp
        µm per label pixel; None if unknown.
    translation_px
        Centre (y, x) of the first pixel, in label pixels.
    overwrite
        Whether a label image that this function wrote there may be replaced. The result of a
        segmented slide is never replaced.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        If something is there that may not be replaced, or it cannot be written.
    DataError
        If the labels cannot be read or do not fit the classes.
    """
    path = Path(path)
    _check_replaceable(path, overwrite)
    partial = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        pyramid = create_pyramid(
            partial,
            labels.shape,
            mpp=mpp,
            chunk=_CHUNK_PX,
            fill_value=NOT_COMPUTED,
            name=path.name.removesuffix(".zarr").removesuffix(".ome"),
            translation_px=translation_px,
            classes=classes,
        )
        for y, x, block in iter_blocks(labels, len(classes), _BLOCK_PX):
            pyramid.write(y, x, block)
        pyramid.build("mode", ignore=[NOT_COMPUTED])
        with writing(path):
            _put_in_place(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return path


def _check_replaceable(path: Path, overwrite: bool) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{path} exists already. Choose another name.")
    if not path.is_dir() or (path / _RUN_FILE).exists() or not is_own_store(path):
        raise OutputError(
            f"{path} exists and is no label image that was saved from here, so it is not "
            "replaced. Choose another name, or delete it yourself."
        )


def _put_in_place(partial: Path, path: Path) -> None:
    old = partial.with_suffix(".replaced")
    if path.exists():
        os.rename(path, old)
    try:
        os.rename(partial, path)
    except OSError:
        if old.exists():
            os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)
