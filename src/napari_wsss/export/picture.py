"""A picture of a segmentation for slides and papers: overlay, legend and scale bar."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.export.blocks import BACKGROUND, NOT_COMPUTED, LabelArray
from napari_wsss.files import atomic_write
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.slides import ResampledSlide, Slide

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

__all__ = ["export_picture", "overview_job", "picture_level", "scale_bar"]

#: Longest side of the segmentation in a picture, in pixels; smaller ones are enlarged to half.
_SIDE_PX = 2400
_STRIP_PX = 64
_INK, _PAPER, _UNKNOWN = (28, 37, 48), (255, 255, 255), (128, 128, 128)


def picture_level(levels: Sequence[LabelArray]) -> int:
    """Return the index of the finest level (H, W) that fits a picture."""
    fitting = [i for i, level in enumerate(levels) if max(level.shape) <= _SIDE_PX]
    return fitting[0] if fitting else len(levels) - 1


def overview_job(
    slide: Slide,
    downsample: float,
    shape: tuple[int, int],
    *,
    cancel: CancelToken | None = None,
) -> Job[NDArray[np.uint8]]:
    """Read a whole slide, reduced.

    Parameters
    ----------
    slide
        The slide.
    downsample
        Level-0 pixels of the slide per pixel.
    shape
        (H, W) wanted; white where the slide ends before.
    cancel
        Stops it between strips of rows.

    Returns
    -------
    NDArray
        (H, W, 3) uint8.

    Raises
    ------
    SlideError, CancelledError
        If the slide cannot be read, or the job was cancelled.
    """
    cancel = cancel or CancelToken()
    grid = ResampledSlide.at_downsample(slide, downsample)
    height, width = shape
    image = np.empty((height, width, 3), np.uint8)
    for y in range(0, height, _STRIP_PX):
        cancel.raise_if_cancelled("Nothing was written.")
        rows = min(_STRIP_PX, height - y)
        image[y : y + rows] = grid.read(y, 0, rows, width)
        yield Progress("Picture", y + rows, height)
    return image


def export_picture(
    labels: NDArray[np.uint8],
    path: str | Path,
    classes: ClassTable,
    *,
    image: NDArray[np.uint8] | None = None,
    mpp: float | None = None,
    areas: Sequence[Mapping[str, Any]] = (),
    title: str = "",
    opacity: float = 0.5,
    overwrite: bool = False,
) -> tuple[int, int]:
    """Write a segmentation as a PNG file with legend and scale bar.

    Parameters
    ----------
    labels
        (H, W) uint8: class index + 1, 0 background, 255 not computed.
    path
        The file to write.
    classes
        The classes of the labels.
    image
        (H, W, 3) uint8, the slide below the colours; white without one.
    mpp
        µm per pixel of `labels`; without it there is no scale bar.
    areas
        Mappings with ``class``, ``share_of_tissue`` (0 to 1) and ``area_mm2`` or None, for
        the legend.
    title
        A line above the legend.
    opacity
        Of the colours over the slide, 0 to 1.
    overwrite
        Whether a file that is there may be replaced.

    Returns
    -------
    tuple of int
        (H, W) of the picture in px.

    Raises
    ------
    DataError
        If the arrays do not fit each other.
    OutputError
        If the file exists and `overwrite` is false, or it cannot be written.
    """
    from PIL import Image, ImageDraw

    if labels.ndim != 2 or (image is not None and image.shape != (*labels.shape, 3)):
        size = None if image is None else image.shape
        raise DataError(f"Labels of {labels.shape} and an image of {size} do not fit each other.")
    enlarged = max(1, _SIDE_PX // 2 // max(labels.shape))
    overlay = _overlay(labels, classes, image, opacity)
    overlay = overlay.repeat(enlarged, 0).repeat(enlarged, 1)
    height, width = overlay.shape[:2]
    unit = max(14, max(height, width) // 80)  # of all sizes: height of a line of text
    font = _font(unit)
    lines = _legend_lines(classes, areas)
    columns = [max(map(font.getlength, column)) for column in zip(*lines, strict=True)]
    legend = math.ceil(max(sum(columns) + unit * (3 + len(columns)), font.getlength(title)))
    below = 0 if mpp is None else 3 * unit
    tall = max(height + below, math.ceil(unit * 1.6 * (len(lines) + 2)))
    picture = Image.new("RGB", (width + legend + 3 * unit, tall + 2 * unit), _PAPER)
    picture.paste(Image.fromarray(overlay), (unit, unit))
    draw = ImageDraw.Draw(picture)
    if mpp is not None:
        _draw_scale_bar(draw, font, unit, (unit, unit + height), width, mpp / enlarged)
    x, y = width + 2 * unit, float(unit)
    if title:
        draw.text((x, y), title, _INK, font)
        y += 2 * unit
    for info, texts in zip(classes.classes, lines, strict=True):
        draw.rectangle((x, y, x + unit, y + unit), info.rgb, _UNKNOWN)
        left = x + 2.0 * unit
        for i, (text, column) in enumerate(zip(texts, columns, strict=True)):
            # Names begin, numbers end on one line.
            shift = 0 if i == 0 else column - font.getlength(text)
            draw.text((left + shift, y), text, _INK, font)
            left += column + unit
        y += 1.6 * unit
    with atomic_write(path, overwrite=overwrite) as file:
        picture.save(file, "PNG", optimize=True)
    return picture.height, picture.width


def scale_bar(width_um: float) -> tuple[float, str]:
    """Return length (µm) and text of a bar of about a fifth of a width: 1, 2 or 5 times 10^n."""
    aim = width_um / 5
    power = 10.0 ** math.floor(math.log10(aim))
    length = max(f * power for f in (1, 2, 5) if f * power <= aim * (1 + 1e-9))
    return length, f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} µm"


def _overlay(
    labels: NDArray[np.uint8],
    classes: ClassTable,
    image: NDArray[np.uint8] | None,
    opacity: float,
) -> NDArray[np.uint8]:
    """Return (H, W, 3): the colours of the classes over the image, or over white."""
    colors = np.full((256, 3), _UNKNOWN, np.float32)
    colors[1 : len(classes) + 1] = classes.rgb
    weight = np.zeros((256, 1), np.float32)
    weight[1 : len(classes) + 1] = opacity if image is not None else 1
    weight[NOT_COMPUTED] = 0.25
    weight[BACKGROUND] = 0
    below = np.float32(255) if image is None else image.astype(np.float32)
    alpha = weight[labels]
    return np.round(below * (1 - alpha) + colors[labels] * alpha).astype(np.uint8)


def _legend_lines(
    classes: ClassTable, areas: Sequence[Mapping[str, Any]]
) -> list[tuple[str, str, str]]:
    """Return (name, share, area) per class as text."""
    by_name = {row["class"]: row for row in areas}
    lines = []
    for name in classes.names:
        row = by_name.get(name, {})
        share, area = row.get("share_of_tissue"), row.get("area_mm2")
        lines.append(
            (
                name,
                "" if share is None else f"{100 * share:.1f} %",
                "" if area is None else f"{area:.3f} mm²",
            )
        )
    return lines


def _draw_scale_bar(
    draw: ImageDraw,
    font: FreeTypeFont,
    unit: int,
    corner: tuple[int, int],
    width: int,
    mpp: float,
) -> None:
    """Draw the bar below the picture whose lower left corner is at `corner` (x, y)."""
    length, text = scale_bar(width * mpp)
    x, y = corner[0], corner[1] + unit
    draw.rectangle((x, y, x + length / mpp, y + unit // 3), _INK)
    draw.text((x, y + unit // 2), text, _INK, font)


def _font(size_px: int) -> FreeTypeFont:
    """Return a typeface that has µ and ², and is there on every machine."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    return ImageFont.truetype(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size_px)
