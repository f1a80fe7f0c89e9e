"""Risk against coverage, and calibration, as one picture of a report."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from napari_wsss.evaluation.figures import LINES, THEMES, data_uri
from napari_wsss.evaluation.uncertainty import Reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["reliability_uri"]


def reliability_uri(reliability: Reliability, theme: str) -> str:
    """Return a data URI of two plots side by side.

    Left: the share of errors among the surest pixels, against their share, beside an order by
    chance and the best there is. Right: how often the model is right, against the probability
    it gives; the area of a dot is its share of the pixels.

    Parameters
    ----------
    reliability
        What was measured.
    theme
        ``"light"`` or ``"dark"``: colours for that page; the background is transparent.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    (ink, grid), colors = THEMES[theme], LINES[theme]
    figure = Figure(figsize=(9.2, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    coverage, risk = reliability.curve()
    chance = reliability.error_rate
    best = np.maximum(0, 1 - (1 - chance) / coverage)
    left.plot(coverage, risk, color=colors[0], lw=2, label="by uncertainty")
    left.axhline(chance, color=colors[6], lw=1.4, ls="--", label="by chance")
    left.plot(coverage, best, color=colors[2], lw=1.4, ls=":", label="at best")
    left.set_xlim(0, 1)
    left.set_xlabel("share of pixels kept, the surest first", color=ink)
    left.set_ylabel("wrong among them", color=ink)
    left.set_ylim(0, 1.3 * chance or 1)
    left.legend(frameon=False, labelcolor=ink, fontsize=9, loc="upper left", ncols=3)
    bins = reliability.calibration()
    right.plot([0, 1], [0, 1], color=colors[6], lw=1.4, ls="--", label="calibrated")
    right.plot(bins[:, 0], bins[:, 1], color=colors[0], lw=1.4)
    right.scatter(bins[:, 0], bins[:, 1], 12 + 300 * bins[:, 2], color=colors[0], label="model")
    low = 0.9 * float(bins[:, :2].min()) if len(bins) else 0.0
    right.set_xlim(low, 1.02)
    right.set_ylim(low, 1.02)
    right.set_xlabel("probability of the predicted class", color=ink)
    right.set_ylabel("right", color=ink)
    right.legend(frameon=False, labelcolor=ink, fontsize=9, loc="lower right")
    for axes in (left, right):
        _style(axes, ink, grid)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(
        buffer, format="png", dpi=160, facecolor="none", metadata={"Software": None}
    )
    return data_uri("image/png", buffer)


def _style(axes: Axes, ink: str, grid: str) -> None:
    axes.grid(color=grid, lw=0.7)
    axes.set_axisbelow(True)
    axes.set_facecolor("none")
    axes.tick_params(colors=ink, length=0, labelsize=9)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("bottom", "left"))
        spine.set_color(grid)
