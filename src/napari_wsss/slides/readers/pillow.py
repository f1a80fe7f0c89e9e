"""PNG, JPEG and BMP through Pillow: decoded at once, so limited in size."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.pixels import to_rgb
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, FileReader
from napari_wsss.slides.resolution import MAX_PRINT_MPP, isotropic_mpp

__all__ = ["MAX_IMAGE_PX", "PillowReader"]

#: Largest image decoded in one piece (px); 384 MiB as RGB. Below Pillow's own limit.
MAX_IMAGE_PX = 2**27
_FORMATS = ("PNG", "JPEG", "BMP")
_RGB_MODES = ("RGB", "CMYK", "YCbCr", "LAB", "HSV")


class PillowReader(FileReader):
    """An ordinary image file as a slide of one level.

    Raises
    ------
    SlideError
        If it is damaged, has more than 8 bits per channel, or more than `MAX_IMAGE_PX` pixels.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, str(path)
        self.properties = {"reader": "pillow"}
        self._pixels = self._decode()
        self.shapes = (self._pixels.shape[:2],)
        self.tiles = ((1024, 1024),)

    def _decode(self) -> NDArray[np.uint8]:
        from PIL import Image

        try:
            with warnings.catch_warnings():
                # Pillow warns from 89 Mpx on and raises from 179 on; ours lies between.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(self.path, formats=_FORMATS) as image:
                    self._check(image.width, image.height, image.mode)
                    dpi = image.info.get("dpi")
                    self.properties["vendor"] = image.format
                    mode = _target_mode(image.mode, "transparency" in image.info)
                    pixels = np.asarray(image.convert(mode))
        except Image.DecompressionBombError as error:
            raise SlideError(f"{self.path} is refused: {error}") from error
        except FOREIGN_ERRORS as error:
            raise SlideError(
                f"{self.path} cannot be decoded: {error}. It is damaged or incomplete; copy it "
                "again from its source."
            ) from error
        if isinstance(dpi, tuple) and all(d > 0 for d in dpi):
            x, y = (25400 / float(d) for d in dpi)
            self.properties.update({"mpp-x": x, "mpp-y": y})
            self.mpp = isotropic_mpp(x, y, MAX_PRINT_MPP)
        return to_rgb(pixels)

    def _check(self, width: int, height: int, mode: str) -> None:
        if width * height > MAX_IMAGE_PX:
            raise SlideError(
                f"{self.path} claims {height} x {width} px, too many for an image that must be "
                f"decoded in one piece (at most {MAX_IMAGE_PX:,}). Save it as a tiled TIFF."
            )
        if mode.startswith("I") or mode == "F":
            kind = {"I": "int32", "F": "float32"}.get(mode, "uint16")
            raise SlideError(
                f"{self.path} has pixels of type {kind}; H&E slides are 8-bit RGB (uint8). "
                "Convert it to 8 bits first."
            )

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return a copy of a rectangle."""
        return self._pixels[y : y + height, x : x + width].copy()


def _target_mode(mode: str, transparency: bool) -> str:
    if mode in ("1", "L") and not transparency:
        return "L"
    if mode in _RGB_MODES and not transparency:
        return "RGB"
    return "RGBA" if transparency or mode in ("RGBA", "LA", "PA", "La", "RGBa") else "RGB"
