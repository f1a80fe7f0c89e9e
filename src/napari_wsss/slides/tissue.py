"""Where the tissue is: glass in a patch, tissue on a whole slide."""

from __future__ import annotations

import math
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.resample import ResampledSlide
from napari_wsss.slides.slide import Slide

__all__ = ["PackedTissue", "TissueMask", "glass_mask", "tissue_mask"]

#: Optical density, and spread of the channels' densities, from which a pixel is tissue.
_MIN_DENSITY, _MIN_CHROMA = 0.06, 0.035
#: Brightness below which a colourless pixel is a border or ink (0 to 255).
_BLACK = 45
#: The mask of a file that was made last: a run that was prepared begins with it.
_LAST: dict[tuple[object, ...], TissueMask] = {}
_MAKING = threading.Lock()
#: Components of tissue smaller and holes smaller than these shares of the mask are dropped.
_MIN_PIECE, _MAX_HOLE = 2e-5, 2e-3


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ITU-R 601 luminance of (..., 3) uint8, rounded as Pillow's mode L does."""
    r, g, b = (rgb[..., i].astype(np.uint32) for i in range(3))
    return ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16).astype(np.uint8)


def glass_mask(
    rgb: NDArray[np.uint8], luminance: int = 200, min_px: int = 50
) -> NDArray[np.bool_]:
    """Return where an image shows glass: bright connected components.

    Parameters
    ----------
    rgb
        (H, W, 3) uint8.
    luminance
        Pixels with a greater ITU-R 601 luminance (0 to 255) are bright.
    min_px
        Components (8-connected) of fewer pixels stay tissue.

    Returns
    -------
    NDArray
        (H, W) bool.
    """
    bright = _grey(rgb) > luminance
    return _without_small(bright, min_px)


class PackedTissue(NamedTuple):
    """A `TissueMask`, compressed.

    Attributes
    ----------
    bits
        zlib stream of the mask's bits.
    shape, scale
        Of the mask.
    """

    bits: bytes
    shape: tuple[int, int]
    scale: float

    def unpacked(self) -> TissueMask:
        """Return the mask."""
        bits = np.frombuffer(zlib.decompress(self.bits), np.uint8)
        count = self.shape[0] * self.shape[1]
        mask = np.unpackbits(bits, count=count).reshape(self.shape).astype(bool)
        return TissueMask(mask, self.scale)


@dataclass(frozen=True, eq=False)
class TissueMask:
    """A low-resolution mask of the tissue on a slide.

    Attributes
    ----------
    mask
        (h, w) bool.
    scale
        Level-0 pixels per mask pixel, along both axes.
    """

    mask: NDArray[np.bool_]
    scale: float

    @property
    def share(self) -> float:
        """Share of the slide that is tissue, 0 to 1."""
        return float(self.mask.mean())

    def packed(self) -> PackedTissue:
        """Return the mask as a few kilobytes, for other processes."""
        bits = zlib.compress(np.packbits(self.mask).tobytes(), 1)
        return PackedTissue(bits, self.mask.shape, self.scale)

    def any_in(self, y0: float, x0: float, y1: float, x1: float) -> bool:
        """Whether any mask pixel that overlaps a rectangle of level-0 pixels is tissue."""
        rows = self._span(y0, y1)
        columns = self._span(x0, x1)
        return bool(self.mask[rows, columns].any())

    def _span(self, start: float, end: float) -> slice:
        first = math.floor(start / self.scale)
        last = math.ceil(end / self.scale)
        return slice(max(first, 0), max(last, 0))

    def sample(
        self, y: float, x: float, height: int, width: int, step: float
    ) -> NDArray[np.bool_]:
        """Return the mask under a grid of pixels.

        Parameters
        ----------
        y, x
            First pixel of the grid, in pixels of `step`.
        height, width
            Pixels of the grid.
        step
            Level-0 pixels per pixel of the grid.

        Returns
        -------
        NDArray
            (height, width) bool: the mask pixel that holds each pixel's centre, False
            outside the slide.
        """
        rows = np.floor((np.arange(height) + y + 0.5) * step / self.scale).astype(np.int64)
        columns = np.floor((np.arange(width) + x + 0.5) * step / self.scale).astype(np.int64)
        inside_rows = (rows >= 0) & (rows < self.mask.shape[0])
        inside_columns = (columns >= 0) & (columns < self.mask.shape[1])
        rows = np.clip(rows, 0, self.mask.shape[0] - 1)
        columns = np.clip(columns, 0, self.mask.shape[1] - 1)
        found = self.mask[rows[:, None], columns[None, :]]
        return found & inside_rows[:, None] & inside_columns[None, :]


def tissue_mask(slide: Slide, *, max_px: int = 2048) -> TissueMask:
    """Find the tissue on a slide at low resolution.

    A pixel is tissue if it is stained: dense or coloured, compared with the slide's own
    glass. Thresholds are fixed, so a slide without tissue gives an empty mask. Green, cyan
    and black ink and black borders are left out; pale tissue, and small holes such as fat
    cells, are kept.

    Parameters
    ----------
    slide
        The slide; its µm/px need not be known.
    max_px
        Longest side of the mask in px.

    Returns
    -------
    TissueMask

    Raises
    ------
    SlideError
        If `max_px` is below 1 or the slide cannot be read.
    """
    if max_px < 1:
        raise SlideError(f"A tissue mask of {max_px} px cannot be made; give max_px=2048.")
    key = _key(slide, max_px)
    if key is None:
        return _made(slide, max_px)
    with _MAKING:  # whoever needs what is being made waits for it
        if key not in _LAST:
            mask = _made(slide, max_px)
            _LAST.clear()
            _LAST[key] = mask
        return _LAST[key]


def _made(slide: Slide, max_px: int) -> TissueMask:
    grid = ResampledSlide.at_downsample(slide, max(1.0, max(slide.shape) / max_px))
    return TissueMask(_stained(grid.read(0, 0, *grid.shape)), sum(grid.downsample) / 2)


def _key(slide: Slide, max_px: int) -> tuple[object, ...] | None:
    """Return what a mask is known by; None for arrays, which may change where they are."""
    if slide.path is None:
        return None
    try:
        written = slide.path.stat().st_mtime_ns
    except OSError:
        return None
    return slide.path, written, slide.fingerprint, max_px


def _stained(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return (H, W) bool of the stained pixels of a low-resolution image."""
    from scipy import ndimage

    # Planes, not pixels: numpy reduces a last axis of three ten times as slowly.
    smooth = np.empty((3, *rgb.shape[:2]), np.float32)
    density = np.empty_like(smooth)
    glass = _glass_color(rgb)

    def fill(i: int) -> None:
        ndimage.gaussian_filter(rgb[..., i].astype(np.float32), 1.0, output=smooth[i])
        np.log10(np.maximum(smooth[i], 1.0) / glass[i], out=density[i])
        np.negative(density[i], out=density[i])

    with ThreadPoolExecutor(3, "tissue") as pool:
        list(pool.map(fill, range(3)))
    chroma = _largest(density) - _smallest(density)
    stained = (density.mean(axis=0) > _MIN_DENSITY) | (chroma > _MIN_CHROMA)
    red, green, blue = smooth
    brightest = _largest(smooth)
    black = (brightest < _BLACK) | ((brightest < 90) & (chroma < 0.08))
    # Haematoxylin and eosin both absorb green most; ink that lets green through is a pen.
    pen = (green > red + 12) & (green > blue - 40)
    stained &= ~(black | pen)
    stained = ndimage.binary_closing(np.pad(stained, 4), iterations=2)[4:-4, 4:-4]
    stained = _without_small(stained, max(4, round(_MIN_PIECE * stained.size)))
    return ~_without_small(~stained, max(4, round(_MAX_HOLE * stained.size)))


def _glass_color(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the colour (3,) of the slide's glass: its bright, colourless pixels."""
    planes = np.moveaxis(rgb, -1, 0)
    low = _smallest(planes)
    bright = rgb[(low > 205) & (_largest(planes) - low < 20)]
    if len(bright) < 0.01 * rgb.shape[0] * rgb.shape[1]:
        return np.full(3, 245, np.float32)
    # Above the median, since faint tissue is among these pixels as well.
    return np.percentile(bright, 75, axis=0).astype(np.float32)


def _largest(planes: NDArray[Any]) -> NDArray[Any]:
    return np.maximum(np.maximum(planes[0], planes[1]), planes[2])


def _smallest(planes: NDArray[Any]) -> NDArray[Any]:
    return np.minimum(np.minimum(planes[0], planes[1]), planes[2])


def _without_small(mask: NDArray[np.bool_], min_px: int) -> NDArray[np.bool_]:
    """Return `mask` without its 8-connected components of fewer than `min_px` pixels."""
    from scipy import ndimage

    components, _ = ndimage.label(mask, structure=np.ones((3, 3), bool))
    keep = np.bincount(components.reshape(-1)) >= min_px
    keep[0] = False
    return keep[components]
