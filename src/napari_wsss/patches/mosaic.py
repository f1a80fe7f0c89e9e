"""A page of patches as one picture, each above the names of its classes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from napari_wsss.classes import ClassInfo
from napari_wsss.errors import DataError
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["Mosaic", "mosaic_job"]

#: Patches are drawn with this side at most (px); smaller ones as they are.
_MOST_PX, _LEAST_CELL_PX = 192, 112
_GAP_PX, _CHIP_PX, _FONT_PX = 10, 24, 19
#: Width of the picture per height, about that of a viewer's canvas.
_ASPECT = 1.3
_GREY = (128, 128, 128, 255)
_THREADS = 4


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Patches in rows, read from left to right.

    Attributes
    ----------
    picture
        (H, W, 4) uint8 RGBA, transparent between the patches.
    indices
        Which patches of the set are shown, in order.
    columns
        Patches in a row.
    cell_px
        Height and width of what belongs to one patch, with the gap to the next.
    unreadable
        Errors of the patches that could not be read.
    """

    picture: NDArray[np.uint8]
    indices: tuple[int, ...]
    columns: int
    cell_px: tuple[int, int]
    unreadable: tuple[str, ...] = ()

    def at(self, y: float, x: float) -> int | None:
        """Return the index of the patch at a point (px of the picture); None between them."""
        row, column = math.floor(y / self.cell_px[0]), math.floor(x / self.cell_px[1])
        place = row * self.columns + column
        inside = 0 <= column < self.columns and row >= 0 and place < len(self.indices)
        return self.indices[place] if inside else None


def mosaic_job(
    patches: PatchSet, indices: Sequence[int], *, cancel: CancelToken | None = None
) -> Job[Mosaic]:
    """Draw some patches of a set.

    Parameters
    ----------
    patches, indices
        The set, and which of it.
    cancel
        Stops the job.

    Yields
    ------
    Event
        Progress of 'gallery' in patches.

    Returns
    -------
    Mosaic
        Patches that cannot be read are grey; nothing raises.
    """
    cancel = cancel or CancelToken()
    chosen = [int(i) for i in indices]
    tiles: list[Image.Image | None] = []
    errors: list[str] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(chosen), 16):
            cancel.raise_if_cancelled()
            for found in pool.map(lambda i: _tile(patches, i), chosen[start : start + 16]):
                tiles.append(None if isinstance(found, str) else found)
                if isinstance(found, str):
                    errors.append(found)
            yield Progress("gallery", len(tiles), len(chosen))
    side = max([_LEAST_CELL_PX, *(max(tile.size) for tile in tiles if tile is not None)])
    chips = int(patches.labels[chosen].sum(1).max(initial=1))
    cell = (side + max(1, chips) * _CHIP_PX + _GAP_PX, side + _GAP_PX)
    columns = max(1, math.ceil(math.sqrt(_ASPECT * len(chosen) * cell[0] / cell[1])))
    columns = min(columns, max(1, len(chosen)))
    rows = max(1, math.ceil(len(chosen) / columns))
    # White, though transparent: interpolated edges of bright patches get no dark rim.
    picture = Image.new("RGBA", (columns * cell[1], rows * cell[0]), (255, 255, 255, 0))
    pen = _Pen(picture, side)
    for place, (i, tile) in enumerate(zip(chosen, tiles, strict=True)):
        y, x = place // columns * cell[0], place % columns * cell[1]
        pen.patch(y, x, tile)
        names = [patches.classes.classes[k] for k in np.flatnonzero(patches.labels[i])]
        pen.classes(y + side, x, names)
    return Mosaic(np.array(picture), tuple(chosen), columns, cell, tuple(errors))


def _tile(patches: PatchSet, i: int) -> Image.Image | str:
    """Return a patch to draw, or why it cannot be read."""
    try:
        image = Image.fromarray(patches.read(i))
    except DataError as error:
        return str(error)
    image.thumbnail((_MOST_PX, _MOST_PX), Image.Resampling.BOX)
    return image


class _Pen:
    """Draws patches and names of classes into a picture."""

    def __init__(self, picture: Image.Image, side: int) -> None:
        self._picture, self._side = picture, side
        self._draw = ImageDraw.Draw(picture)
        self._font = ImageFont.load_default(_FONT_PX)

    def patch(self, y: int, x: int, tile: Image.Image | None) -> None:
        if tile is None:
            self._draw.rectangle((x, y, x + self._side - 1, y + self._side - 1), _GREY)
            self._text(y + self._side // 2, x, "unreadable", (0, 0, 0))
            return
        # At the bottom, next to its names.
        left = x + (self._side - tile.width) // 2
        self._picture.paste(tile, (left, y + self._side - tile.height))

    def classes(self, y: int, x: int, infos: Sequence[ClassInfo]) -> None:
        for row, info in enumerate(infos):
            top = y + row * _CHIP_PX
            box = (x, top, x + self._side - 1, top + _CHIP_PX - 2)
            self._draw.rectangle(box, (*info.rgb, 255))
            self._text(top + _CHIP_PX // 2 - 1, x, info.name, _contrast(info.rgb))
        if not infos:
            self._draw.rectangle((x, y, x + self._side - 1, y + _CHIP_PX - 2), _GREY)
            self._text(y + _CHIP_PX // 2 - 1, x, "no class", (0, 0, 0))

    def _text(self, middle: int, x: int, text: str, color: tuple[int, int, int]) -> None:
        for shown in _shortened(text):
            if self._font.getlength(shown) <= self._side - 8:
                break
        self._draw.text((x + 4, middle), shown, (*color, 255), self._font, anchor="lm")


def _shortened(text: str) -> Iterator[str]:
    yield text
    for length in range(len(text) - 1, 0, -1):
        yield f"{text[:length]}…"


def _contrast(rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever reads better on a colour."""
    luminance = 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
    return (0, 0, 0) if luminance > 140 else (255, 255, 255)
