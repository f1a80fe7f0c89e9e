"""OME-Zarr 0.4 and 0.5 images: metadata checked before a pixel is allocated."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.readers.arrays import ArrayReader
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, Reader
from napari_wsss.slides.resolution import isotropic_mpp, to_micrometers

__all__ = ["OmeZarrReader", "geometry_of", "is_zarr", "multiscale_of", "open_group"]

#: Largest decoded chunk (bytes).
MAX_CHUNK_BYTES = 2**30
_FILES = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether the folder `path` is a zarr group or array."""
    return any((path / name).is_file() for name in _FILES)


def open_group(path: Path) -> zarr.Group | zarr.Array:
    """Open the zarr node at `path` for reading.

    Raises
    ------
    SlideError
        If its metadata are missing, cut off or not understood.
    """
    try:
        return zarr.open(str(path), mode="r")
    except FOREIGN_ERRORS as error:
        raise SlideError(
            f"{path} has zarr metadata that cannot be read ({type(error).__name__}: {error}). "
            "Copy it again from its source."
        ) from error


def multiscale_of(group: zarr.Group, where: str) -> Mapping[str, Any]:
    """Return the first multiscale image that the attributes of `group` describe.

    Raises
    ------
    SlideError
        If they describe none.
    """
    attributes = dict(group.attrs)
    source = attributes.get("ome", attributes)
    images = source.get("multiscales") if isinstance(source, Mapping) else None
    if not isinstance(images, list) or not images or not isinstance(images[0], Mapping):
        raise SlideError(
            f"{where} is a zarr group without OME-Zarr image metadata ('multiscales'). "
            "Give the folder of an image, for a plate or series one of the folders in it."
        )
    return images[0]


class OmeZarrReader(Reader):
    """An OME-Zarr image, or a single zarr array.

    Parameters
    ----------
    node
        The group or array.
    where
        Path, for messages.

    Raises
    ------
    SlideError
        If the metadata do not describe an 8-bit grey or RGB image of credible size.
    """

    def __init__(self, node: zarr.Group | zarr.Array, where: str) -> None:
        self.where = where
        self._node = node
        self.properties = {"reader": "zarr", "vendor": "ome-zarr"}
        if isinstance(node, zarr.Array):
            arrays = [_checked(node, where)]
        else:
            try:
                arrays = self._image(node, multiscale_of(node, where))
            except FOREIGN_ERRORS as error:
                raise SlideError(
                    f"{where} has OME-Zarr metadata that cannot be used "
                    f"({type(error).__name__}: {error})."
                ) from error
        self._arrays = ArrayReader(arrays, where)
        self.shapes, self.tiles = self._arrays.shapes, self._arrays.tiles

    def _image(self, group: zarr.Group, image: Mapping[str, Any]) -> list[Any]:
        axes = [a if isinstance(a, Mapping) else {"name": str(a)} for a in image["axes"]]
        names = [str(a["name"]) for a in axes]
        if not {"y", "x"} <= set(names):
            raise SlideError(f"{self.where} has axes {names}, not an image with y and x.")
        datasets: Sequence[Mapping[str, Any]] = image["datasets"]
        arrays = []
        for dataset in datasets:
            array = group[str(dataset["path"])]
            if not isinstance(array, zarr.Array) or array.ndim != len(names):
                raise ValueError(f"level {dataset['path']!r} does not fit the axes {names}")
            arrays.append(_Plane(_checked(array, self.where), names, self.where))
        sizes = _pixel_size(image)
        self.properties.update({f"mpp-{axis}": size for axis, size in sizes.items()})
        self.mpp = isotropic_mpp(sizes["x"], sizes["y"])
        return arrays

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a rectangle; chunks that were never written have the fill value."""
        return self._arrays.read(level, y, x, height, width)

    def fingerprint(self) -> str:
        """Return the sha256 of attributes, shapes and a sample of every level."""
        attributes = repr(sorted(dict(self._node.attrs).items())).encode()
        return hashlib.sha256(attributes + self._arrays.fingerprint().encode()).hexdigest()


class _Plane:
    """The (c, y, x) or (y, x) part of an array with t and z of length one."""

    def __init__(self, array: zarr.Array, names: Sequence[str], where: str) -> None:
        self._array = array
        keep = [n for n in ("c", "y", "x") if n in names]
        for name, size in zip(names, array.shape, strict=True):
            if name not in keep and size != 1:
                raise SlideError(
                    f"{where} has {size} planes along axis {name!r}; a slide has one. "
                    "Save the plane to use as an image of its own."
                )
        if [n for n in names if n in keep] != keep:
            raise SlideError(f"{where} has its axes in the order {list(names)}, not c, y, x.")
        self._kept = [n in keep for n in names]
        self.ndim, self.dtype = len(keep), array.dtype
        self.shape = self._of(array.shape)
        self.chunks = self._of(array.chunks)
        if self.ndim == 3 and self.shape[0] not in (1, 2, 3, 4):
            raise SlideError(f"{where} has {self.shape[0]} channels; H&E slides have 3 (RGB).")

    def _of(self, sizes: Sequence[int]) -> tuple[int, ...]:
        return tuple(int(n) for n, kept in zip(sizes, self._kept, strict=True) if kept)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[Any]:
        parts = iter(index)
        return np.asarray(self._array[tuple(next(parts) if k else 0 for k in self._kept)])


def _checked(array: zarr.Array, where: str) -> zarr.Array:
    size = int(np.prod([int(n) for n in array.chunks], dtype=object)) * array.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise SlideError(
            f"{where} claims chunks of {array.chunks}, {size:,} bytes each: too large to read "
            "one at a time. Its metadata are damaged, or it must be stored in smaller chunks."
        )
    return array


def geometry_of(image: Mapping[str, Any]) -> tuple[float | None, tuple[float, float]]:
    """Return µm/px of the finest level and the centre (y, x) of its first pixel in px."""
    names = [str(a["name"]) for a in image["axes"]]
    dataset = image["datasets"][0]
    sizes = _pixel_size(image)
    shift = []
    for name in ("y", "x"):
        at = names.index(name)
        shift.append(_value(dataset, "translation", at, 0.0) / _value(dataset, "scale", at, 1.0))
    return isotropic_mpp(sizes["x"], sizes["y"]), (shift[0], shift[1])


def _pixel_size(image: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the µm that a pixel of the finest level measures along y and x."""
    sizes: dict[str, float | None] = {}
    for at, axis in enumerate(image["axes"]):
        if isinstance(axis, Mapping) and axis["name"] in ("y", "x"):
            entries = (image["datasets"][0], image)
            size = math.prod(_value(entry, "scale", at, 1.0) for entry in entries)
            sizes[str(axis["name"])] = to_micrometers(size, axis.get("unit"))
    return {"y": sizes.get("y"), "x": sizes.get("x")}


def _value(entry: Mapping[str, Any], kind: str, axis: int, default: float) -> float:
    for transform in entry.get("coordinateTransformations") or ():
        if transform.get("type") == kind:
            return float(transform[kind][axis])
    return default
