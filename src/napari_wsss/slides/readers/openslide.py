"""Vendor formats (NDPI, MRXS, SCN, BIF, VMS, DICOM ...) through OpenSlide, an optional package."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import MissingDependencyError, SlideError
from napari_wsss.slides.pixels import check_size, to_rgb
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, FileReader, read_error
from napari_wsss.slides.resolution import isotropic_mpp

__all__ = ["OpenSlideReader", "detect_vendor"]

_INSTALL = 'pip install "napari-wsss[openslide]"'


def _openslide(path: Path) -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:  # OSError: the C library is missing
        raise MissingDependencyError(
            f"{path} needs OpenSlide, which is not installed. Install it: {_INSTALL}"
        ) from error
    return openslide


def detect_vendor(path: Path) -> str | None:
    """Return OpenSlide's name of the format; None if it knows none or is not installed."""
    try:
        openslide = _openslide(path)
    except MissingDependencyError:
        return None
    try:
        return openslide.OpenSlide.detect_format(str(path))
    except (openslide.OpenSlideError, *FOREIGN_ERRORS):
        return None


class OpenSlideReader(FileReader):
    """A slide read by OpenSlide.

    Raises
    ------
    MissingDependencyError
        If OpenSlide is not installed.
    SlideError
        If it cannot open the file.
    """

    def __init__(self, path: Path) -> None:
        self._library = _openslide(path)
        self.path, self.where = path, str(path)
        self._lock = threading.Lock()
        self._slide = self._open()
        self.shapes = tuple((h, w) for w, h in self._slide.level_dimensions)
        for i, shape in enumerate(self.shapes):
            check_size(*shape, f"{path}: level {i}")
        raw = dict(self._slide.properties)
        self.tiles = tuple(_tile(raw, i) for i in range(len(self.shapes)))
        self.mpp = isotropic_mpp(raw.get("openslide.mpp-x"), raw.get("openslide.mpp-y"))
        self.properties = {
            **raw,
            "reader": "openslide",
            "vendor": raw.get("openslide.vendor"),
            "objective": raw.get("openslide.objective-power"),
        }

    def _open(self) -> Any:
        try:
            return self._library.OpenSlide(str(self.path))
        except (self._library.OpenSlideError, *FOREIGN_ERRORS) as error:
            raise SlideError(
                f"{self.path} cannot be opened as a slide: {error}. It is damaged or incomplete "
                "(some formats need the folder beside the file); copy it again from its source."
            ) from error

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a rectangle, transparent pixels composited on white."""
        slide = self._slide
        if slide is None:
            raise SlideError(f"{self.where} is closed; open it again to read from it.")
        factor = slide.level_downsamples[level]
        corner = (round(x * factor), round(y * factor))  # OpenSlide wants level-0 pixels
        try:
            image = slide.read_region(corner, level, (width, height))
        except (self._library.OpenSlideError, *FOREIGN_ERRORS) as error:
            self._replace(slide)
            raise read_error(error, self.where, level, y, x) from error
        return to_rgb(np.asarray(image))

    def _replace(self, broken: Any) -> None:
        # After one failed tile a handle refuses every later read, so a fresh one takes over.
        # The broken one is left to the garbage collector: other threads may be inside it.
        with self._lock:
            if self._slide is broken:
                self._slide = self._open()

    def companions(self) -> list[Path]:
        """Return the files of MIRAX's folder, or those that a VMS or VMU index names.

        The slides of a folder of DICOM files cannot be told apart without reading each, so a
        DICOM slide is known by the file that was opened alone.
        """
        suffix = self.path.suffix.lower()
        if suffix == ".mrxs":
            folder = self.path.with_suffix("")
            # Not all that is there: file managers leave files of their own.
            return [p for p in _listed(folder) if p.suffix.lower() in (".dat", ".ini")]
        if suffix in (".vms", ".vmu"):
            text = self.path.read_text("latin-1")
            named = {Path(line.partition("=")[2].strip()).name for line in text.splitlines()}
            return [p for name in named - {""} if (p := self.path.with_name(name)).is_file()]
        return []

    def close(self) -> None:
        """Close the handle."""
        with self._lock:
            if self._slide is not None:
                self._slide.close()
                self._slide = None


def _listed(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.is_file()] if folder.is_dir() else []


def _tile(properties: dict[str, str], level: int) -> tuple[int, int]:
    prefix = f"openslide.level[{level}].tile-"
    try:
        tile = int(properties[prefix + "height"]), int(properties[prefix + "width"])
    except (KeyError, ValueError):
        return 512, 512
    return tile if min(tile) > 0 else (512, 512)
