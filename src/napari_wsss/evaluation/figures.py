"""Pictures and curves as data URIs, so that a report is one file."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation.render import colorize, heatmap

__all__ = ["curve_uri", "data_uri", "panel_uri", "picture_uri"]

#: Longest side of a picture in a report, in pixels; larger ones are reduced.
MAX_SIDE_PX = 768
#: Line and text colours that stand out on a light and on a dark page.
THEMES = {"light": ("#1c2530", "#d5dae0"), "dark": ("#e4e8ec", "#3a444f")}
LINES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#777777"),
    "dark": ("#56b4e9", "#ff8a3d", "#2fc49a", "#e39cc4", "#f0c419", "#9db8ff", "#aaaaaa"),
}


def panel_uri(panel: NDArray[Any], classes: ClassTable) -> str:
    """Return a data URI of a mask (H, W) of integers, a map (H, W) of floats or a picture.

    Raises
    ------
    DataError
        If the array is none of these.
    """
    panel = np.asarray(panel)
    if panel.ndim == 2 and panel.dtype.kind in "iu":
        return picture_uri(colorize(panel, classes), flat=True)
    if panel.ndim == 2 and panel.dtype.kind == "f":
        return picture_uri(heatmap(panel))
    return picture_uri(panel)


def picture_uri(picture: NDArray[np.uint8], flat: bool = False) -> str:
    """Return a data URI of a picture (H, W, 3).

    Parameters
    ----------
    picture
        Red, green, blue, uint8.
    flat
        Whether it has few colours and sharp borders, as a mask: then it is stored without
        loss as PNG, else as JPEG.

    Raises
    ------
    DataError
        If the array is not a picture.
    """
    from PIL import Image

    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or not picture.size:
        raise DataError(
            f"A picture is uint8 of shape (H, W, 3), not {picture.dtype} of {picture.shape}."
        )
    image = Image.fromarray(np.ascontiguousarray(picture))
    longest = max(image.size)
    if longest > MAX_SIDE_PX:
        width, height = (max(1, round(side * MAX_SIDE_PX / longest)) for side in image.size)
        resampling = Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS
        image = image.resize((width, height), resampling)
    buffer = io.BytesIO()
    if flat:
        image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        return data_uri("image/png", buffer)
    image.save(buffer, "JPEG", quality=88)
    return data_uri("image/jpeg", buffer)


def curve_uri(series: Mapping[str, Sequence[float]], x_label: str, theme: str) -> str:
    """Return a data URI of a line plot over 1, 2, 3 ...

    Parameters
    ----------
    series
        Values per line; NaN leaves a gap.
    x_label
        Name of the horizontal axis.
    theme
        ``"light"`` or ``"dark"``: colours for that page; the background is transparent.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    (ink, grid), colors = THEMES[theme], LINES[theme]
    # The object interface keeps no global figures, so reports can be written in any thread.
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    longest = 1
    for i, (name, values) in enumerate(series.items()):
        x = np.arange(1, len(values) + 1)
        marker = "o" if len(values) < 3 else None
        color = colors[i % len(colors)]
        axes.plot(x, values, color=color, lw=1.8, marker=marker, ms=5, label=name)
        longest = max(longest, len(values))
    axes.set_xlim(1 if longest > 1 else 0.5, max(longest, 1.5))
    axes.set_xlabel(x_label, color=ink)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=grid, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.tick_params(colors=ink, length=0, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(grid)
    if series:
        axes.legend(frameon=False, labelcolor=ink, fontsize=9)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(
        buffer, format="png", dpi=200, facecolor="none", metadata={"Software": None}
    )
    return data_uri("image/png", buffer)


def data_uri(kind: str, buffer: io.BytesIO) -> str:
    """Return the data URI of a file in memory, of the MIME type `kind`."""
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
