"""Tiled, striped and pyramidal TIFF, OME-TIFF and Aperio SVS through tifffile.

Only the directory is read by tifffile's file object; the tiles are decoded one by one
(`tiff_tiles`), which is two to seven times faster than OpenSlide and thread-safe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.pixels import check_dtype, check_size, to_rgb
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, FileReader
from napari_wsss.slides.readers.tiff_directory import (
    check_complete,
    check_directories,
    damaged,
)
from napari_wsss.slides.readers.tiff_metadata import resolution
from napari_wsss.slides.readers.tiff_tiles import PageTiles, TileCache, TileFile

__all__ = ["TiffReader", "needs_openslide"]

_ERRORS = (tifffile.TiffFileError, *FOREIGN_ERRORS)
#: Photometric interpretations that are grey or RGB, or that the JPEG decoder turns into RGB.
_GREY, _RGB, _YCBCR = (1,), (2,), (6,)
_JPEG = (6, 7, 34892, 33007)
_OPENSLIDE_VENDORS = ("ndpi", "scn", "bif", "philips")
#: Aperio's YCbCr flavour of JPEG 2000, which only OpenSlide converts to RGB.
_APERIO_YCBCR = 33003


def needs_openslide(path: Path) -> str | None:
    """Return the vendor if the TIFF at `path` is one whose layout only OpenSlide knows.

    Raises
    ------
    SlideError
        If the file is cut off or has no readable directory.
    """
    with _opened(path) as tif:
        try:
            for vendor in _OPENSLIDE_VENDORS:
                if getattr(tif, f"is_{vendor}"):
                    check_complete(path, list(tif.pages))
                    return vendor
            return "aperio" if int(tif.pages[0].compression) == _APERIO_YCBCR else None
        except _ERRORS as error:
            raise damaged(path, error) from error


class TiffReader(FileReader):
    """The first image of a TIFF with its reduced levels.

    Raises
    ------
    SlideError
        If the file is cut off or damaged, is a stack, or is not 8-bit grey or RGB.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)
        check_directories(path)
        with _opened(path) as tif:
            try:
                series = tif.series[0]
                levels = [_planes(level, self.where) for level in series.levels]
                self.mpp, self.properties = resolution(tif)
                check_complete(path, [page for planes in levels for page in planes])
                check_complete(path, (page.aspage() for page in tif.pages))
                self._cache = TileCache()
                self._file = TileFile(path)
                self._levels = [
                    [PageTiles(page, self._file, self._cache, self.where) for page in planes]
                    for planes in levels
                ]
            except _ERRORS as error:
                raise damaged(path, error) from error
        self.shapes = tuple(planes[0].shape for planes in self._levels)
        self.tiles = tuple(planes[0].tile for planes in self._levels)

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Decode the tiles under a rectangle; tiles the scanner left out are white."""
        planes = [p.read(level, y, x, height, width) for p in self._levels[level]]
        return to_rgb(planes[0] if len(planes) == 1 else np.concatenate(planes, axis=2))

    def close(self) -> None:
        """Close the file and drop decoded tiles."""
        self._file.close()
        self._cache.clear()


def _opened(path: Path) -> tifffile.TiffFile:
    try:
        tif = tifffile.TiffFile(path)
        pages = len(tif.pages)
    except _ERRORS as error:
        raise damaged(path, error) from error
    if not pages:
        tif.close()
        raise damaged(path, "it has no image")
    return tif


def _planes(level: Any, where: str) -> list[Any]:
    """Return the pages of one level: one, or one per channel."""
    sizes = dict(zip(level.axes, level.shape, strict=True))
    stacked = {axis: n for axis, n in sizes.items() if axis not in "YXSC" and n > 1}
    if "Y" not in sizes or "X" not in sizes or stacked:
        raise SlideError(
            f"{where} holds an array with axes {level.axes} {tuple(level.shape)}, not one "
            "two-dimensional image. Save the plane to use as a TIFF of its own."
        )
    pages = [page.aspage() for page in level.pages if page is not None]
    channels = len(pages) * pages[0].samplesperpixel
    if channels not in (1, 2, 3, 4) or sizes.get("C", 1) not in (1, channels):
        raise SlideError(f"{where} has {channels} channels; H&E slides have 3 (RGB) or 1.")
    for page in pages:
        check_size(page.imagelength, page.imagewidth, where)
        if page.dtype is None:
            raise SlideError(
                f"{where} has {page.bitspersample}-bit pixels; H&E slides are 8-bit RGB."
            )
        check_dtype(page.dtype, where)
        kind = int(page.photometric)
        jpeg = int(page.compression) in _JPEG
        if kind not in _GREY + _RGB and not (kind in _YCBCR and jpeg):
            raise SlideError(
                f"{where} has pixels of the kind {page.photometric.name}; grey and RGB are "
                "read. Convert it to RGB first."
            )
    return pages
