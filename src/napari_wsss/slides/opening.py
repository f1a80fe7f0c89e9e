"""`open_slide`: from a path or an array to a slide, whatever the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from napari_wsss.errors import SlideError
from napari_wsss.slides.readers.base import Reader
from napari_wsss.slides.resolution import validated_mpp
from napari_wsss.slides.slide import Slide

__all__ = ["SLIDE_SUFFIXES", "open_slide"]

_SUPPORTED = (
    "SVS, NDPI, MRXS, SCN, BIF, VMS, CZI, DICOM and other formats of scanners (through "
    "OpenSlide), TIFF, OME-TIFF, OME-Zarr, PNG, JPEG and BMP"
)
_IMAGES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
#: Formats whose entry file is text, looks like an image, or has no magic number of its own.
_TEXT_SUFFIXES = {".vms", ".vmu"}
_OPENSLIDE_SUFFIXES = {".mrxs", ".ndpi", ".scn", ".bif", ".dcm", ".czi"}
#: What files of slides are called, in lower case. Not plain images, though they are opened, too,
#: and not folders. The manifest says the same to napari.
SLIDE_SUFFIXES = frozenset(
    {".svs", ".svslide", ".tif", ".tiff", ".btf", ".qptiff"} | _OPENSLIDE_SUFFIXES | _TEXT_SUFFIXES
)
_SUFFIXES = (".ome.zarr", ".ome.tiff", ".ome.tif", ".ome.btf")


def open_slide(source: Any, *, mpp: float | None = None, name: str | None = None) -> Slide:
    """Open a slide or image without reading its pixels.

    Parameters
    ----------
    source
        A path; or a numpy, dask or zarr array, (H, W), (H, W, C) or (C, H, W) uint8; or a
        list of such, finest first; or a zarr group with OME-Zarr metadata; or a `Slide`.
    mpp
        µm/px of level 0; replaces what the source says.
    name
        Name of the slide; by default the stem of the file name.

    Returns
    -------
    Slide
        Lazy, finest level first.

    Raises
    ------
    SlideError
        If there is no such file, or it is damaged, or no slide, or not 8-bit grey or RGB.
    MissingDependencyError
        If the format needs OpenSlide and that is not installed.
    """
    if mpp is not None:
        mpp = validated_mpp(mpp)
    if isinstance(source, Slide):
        return source if mpp is None else source.with_mpp(mpp)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        return Slide.from_reader(_reader(path), name or _stem(path), mpp, path)
    return Slide.from_reader(_array_reader(source, name or "image"), name or "image", mpp)


def _stem(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem or path.resolve().name


def _array_reader(source: Any, where: str) -> Reader:
    if isinstance(source, (list, tuple)):
        from napari_wsss.slides.readers.arrays import ArrayReader

        return ArrayReader(source, where)
    import zarr

    if isinstance(source, zarr.Group):
        from napari_wsss.slides.readers.ome_zarr import OmeZarrReader

        return OmeZarrReader(source, str(source.store_path))
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        from napari_wsss.slides.readers.arrays import ArrayReader

        return ArrayReader([source], where)
    raise SlideError(
        f"A {type(source).__name__} cannot be opened as a slide. Give a path, an array, a list "
        "of arrays (finest first) or a zarr group."
    )


def _reader(path: Path) -> Reader:
    try:
        if not path.exists():
            raise SlideError(f"There is no file {path}.")
        if path.is_dir():
            return _folder_reader(path)
        with path.open("rb") as file:
            head = file.read(512)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise SlideError(f"{path} cannot be read: {error}") from error
    if not head:
        raise SlideError(f"{path} is empty (0 bytes). Copy it again from its source.")
    return _file_reader(path, head)


def _folder_reader(path: Path) -> Reader:
    from napari_wsss.slides.readers.ome_zarr import OmeZarrReader, is_zarr, open_group

    if not is_zarr(path):
        raise SlideError(
            f"{path} is a folder without OME-Zarr metadata, not a slide. Give the path of one "
            "slide file in it."
        )
    return OmeZarrReader(open_group(path), str(path))


def _file_reader(path: Path, head: bytes) -> Reader:
    from napari_wsss.slides.readers.openslide import OpenSlideReader, detect_vendor
    from napari_wsss.slides.readers.tiff import TiffReader, needs_openslide
    from napari_wsss.slides.readers.tiff_directory import is_tiff

    if is_tiff(head):
        vendor = needs_openslide(path)
        if vendor is not None or detect_vendor(path) not in (None, "aperio", "generic-tiff"):
            return OpenSlideReader(path)
        return TiffReader(path)
    suffix = path.suffix.lower()
    if suffix in _TEXT_SUFFIXES or (suffix in _OPENSLIDE_SUFFIXES and not _is_text(head)):
        return OpenSlideReader(path)
    if head.startswith(_IMAGES):
        from napari_wsss.slides.readers.pillow import PillowReader

        return PillowReader(path)
    if detect_vendor(path) is not None:
        return OpenSlideReader(path)
    if _is_text(head):
        kind = "a web page (HTML)" if b"<html" in head.lower() else "text"
        raise SlideError(
            f"{path} holds {kind}, not a slide; perhaps its download failed. Copy it again from "
            "its source."
        )
    if path.name in ("zarr.json", ".zgroup", ".zattrs"):
        raise SlideError(f"{path} is part of an OME-Zarr; give the folder {path.parent}.")
    raise SlideError(f"{path} is in no format that is known. These are read: {_SUPPORTED}.")


def _is_text(head: bytes) -> bool:
    text = head.decode("latin-1")
    return all(c.isprintable() or c in "\t\r\n\f" for c in text) and b"\0" not in head
