"""Reading stored pyramids and segmentations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple, cast

import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.slides import ngff
from napari_wsss.slides.pyramid import Pyramid, location
from napari_wsss.slides.readers.base import FOREIGN_ERRORS
from napari_wsss.slides.readers.ome_zarr import geometry_of, multiscale_of

__all__ = ["StoredLabels", "open_labels", "open_pyramid"]


class StoredLabels(NamedTuple):
    """A label image on disk."""

    #: zarr arrays (H, W), finest first: 0 background, class index + 1, 255 not computed.
    levels: list[zarr.Array]
    #: µm/px of the finest level, None if unknown.
    mpp: float | None
    #: Names and colours, None if the image does not say.
    classes: ClassTable | None
    #: Centre (y, x) of the first pixel, in pixels of the finest level.
    translation_px: tuple[float, float]


def open_pyramid(path: str | Path | zarr.Group, mode: Literal["r", "r+"] = "r") -> Pyramid:
    """Open a stored pyramid; `mode` is ``"r"`` or ``"r+"``.

    Raises
    ------
    SlideError
        If it is not an OME-Zarr image, or damaged.
    """
    where = location(path) if isinstance(path, zarr.Group) else str(path)
    try:
        group = path if isinstance(path, zarr.Group) else zarr.open_group(str(path), mode=mode)
        names = [str(dataset["path"]) for dataset in multiscale_of(group, where)["datasets"]]
        arrays = [group[name] for name in names]
        if not names or not all(isinstance(array, zarr.Array) for array in arrays):
            raise ValueError("its metadata name levels that are no arrays")
    except FOREIGN_ERRORS as error:
        raise SlideError(
            f"{where} is not an OME-Zarr image that can be read ({type(error).__name__}: {error})."
        ) from error
    levels = cast("list[zarr.Array]", arrays)
    if mode == "r+":  # as they were created: a chunk that is missing was not written
        levels = [array.with_config({"write_empty_chunks": True}) for array in levels]
    return Pyramid(group, levels)


def open_labels(path: str | Path | zarr.Group) -> StoredLabels:
    """Open a stored label image.

    Parameters
    ----------
    path
        Folder or group of the label image itself.

    Returns
    -------
    StoredLabels
        ``(levels, mpp, classes, translation_px)``.

    Raises
    ------
    SlideError
        If it is not a two-dimensional OME-Zarr label image.
    DataError
        If its classes are not a valid table.
    """
    pyramid = open_pyramid(path)
    if any(a.ndim != 2 or a.dtype.kind not in "ui" for a in pyramid.levels):
        raise SlideError(f"{pyramid.where} is not a two-dimensional label image.")
    image = multiscale_of(pyramid.group, pyramid.where)
    try:
        mpp, translation_px = geometry_of(image)
        classes = ngff.class_table(dict(pyramid.group.attrs))
    except FOREIGN_ERRORS as error:
        raise SlideError(
            f"{pyramid.where} has label metadata that are damaged: {error}"
        ) from error
    return StoredLabels(pyramid.levels, mpp, classes, translation_px)
