"""Reading patch images and mask files through Pillow, with errors a user can act on.

The orientation tag of EXIF is ignored on purpose: masks and window coordinates refer to
the pixels as they are stored, and scanners do not turn tissue.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from napari_wsss.errors import DataError

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "read_mask_values", "read_rgb", "read_size"]

#: File name endings taken for images, in lower case.
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
#: Larger images are refused before they are decoded; whole slides are for `open_slide`.
MAX_PIXELS = 100_000_000

# Only these decoders are ever started, whatever the file pretends to be.
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
# What Pillow's decoders raise on damaged bytes (found by mutating files, see the tests).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
# Grey PNGs of few bits are stretched to 0...255 by Pillow; masks want the stored value.
_STRETCHED = {"L;2": 85, "L;4": 17}


def read_rgb(path: str | Path) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB.

    Grey and palette images become RGB, transparent pixels are composited on white.

    Parameters
    ----------
    path
        PNG, JPEG, TIFF or BMP file with one image.

    Returns
    -------
    NDArray[np.uint8]
        Shape (H, W, 3), writable.

    Raises
    ------
    DataError
        If the file is missing, damaged, larger than `MAX_PIXELS`, holds several images,
        or its pixels are not 8-bit grey, palette or RGB.
    """
    with _opened(Path(path)) as image:
        if "transparency" in image.info and image.mode in {"1", "L", "P", "RGB"}:
            image = image.convert("RGBA")
        if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"}:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            return np.array(Image.alpha_composite(white, image).convert("RGB"))
        if image.mode not in {"RGB", "L", "P", "1", "YCbCr"}:
            raise DataError(
                f"{path}: pixels of mode {image.mode!r} are not supported. "
                "Convert the image to 8-bit RGB."
            )
        return np.array(image.convert("RGB"))


def read_mask_values(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask file as the values it stores.

    Palette images give their indices, 1-bit images 0 and 1; RGB is accepted where the
    three channels are equal.

    Parameters
    ----------
    path
        PNG, TIFF or BMP file with one image.

    Returns
    -------
    NDArray[np.uint8]
        Shape (H, W).

    Raises
    ------
    DataError
        If the file is missing or damaged, is a colour picture, or holds a value that does
        not fit a byte.
    """
    with _opened(Path(path), sixteen_bit=True) as image:
        divisor = _STRETCHED.get(_raw_mode(image), 1)
        values = np.array(image)
    if values.ndim == 3:
        color, alpha = _split_alpha(values, image.mode)
        if (color != color[..., :1]).any() or (alpha is not None and (alpha != 255).any()):
            raise DataError(
                f"{path}: this mask is a colour picture. A mask holds one number per pixel: "
                "save it as grey or palette PNG with the values of the class table."
            )
        values = color[..., 0]
    if values.dtype.kind == "f":
        raise DataError(f"{path}: this mask holds {values.dtype} numbers; 0 to 255 are needed.")
    if values.size and (int(values.min()) < 0 or int(values.max()) > 255):
        raise DataError(
            f"{path}: this mask holds values from {values.min()} to {values.max()}; a mask "
            "value must fit a byte (0 to 255)."
        )
    return (values.astype(np.uint8) // divisor).astype(np.uint8)


def read_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) from the header, without decoding pixels.

    Raises
    ------
    DataError
        If the header cannot be read.
    """
    with _opened(Path(path), load=False) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path, *, load: bool = True, sixteen_bit: bool = False) -> Iterator[Image.Image]:
    """Open `path`, check its header, decode it; what Pillow raises becomes DataError."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{path}: {image.width} x {image.height} px is more than the "
                    f"{MAX_PIXELS / 1e6:.0f} Mpx that a patch or an image to cut may have."
                )
            frames = getattr(image, "n_frames", 1)
            if frames != 1:
                raise DataError(
                    f"{path}: the file holds {frames} images (a stack or pyramid); one is "
                    "needed. Save the one that is meant as a file of its own."
                )
            # Pillow would cut 16-bit colour down to its high bytes without a word.
            if "16" in _raw_mode(image) and not (sixteen_bit and image.mode.startswith("I")):
                raise DataError(f"{path}: 16-bit pixels; convert the image to 8 bits.")
            if load:
                image.load()
            yield image
    except FileNotFoundError:
        raise DataError(f"{path}: the file does not exist.") from None
    except IsADirectoryError:
        raise DataError(f"{path}: this is a folder, not an image.") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to read the file.") from None
    except UnidentifiedImageError:
        empty = path.is_file() and path.stat().st_size == 0
        what = "the file is empty" if empty else "this is not a PNG, JPEG, TIFF or BMP image"
        raise DataError(f"{path}: {what}.") from None
    except _DAMAGE as error:
        raise DataError(f"{path}: the image is damaged or cut off ({error}).") from error


def _raw_mode(image: Image.Image) -> str:
    """Return how pixels are stored in the file, for instance ``"RGB;16B"``."""
    for tile in getattr(image, "tile", ()):
        args = tile[3] if len(tile) > 3 else None
        first = args[0] if isinstance(args, tuple) and args else args
        if isinstance(first, str):
            return first
    return image.mode


def _split_alpha(
    values: NDArray[np.uint8], mode: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Split (H, W, C) into colour channels and the alpha channel, if `mode` has one."""
    if mode in {"RGBA", "LA", "PA"}:
        return values[..., :-1], values[..., -1]
    return values, None
