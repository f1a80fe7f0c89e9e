"""The curves of a training run: loss and scores per epoch, the kept one marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

if TYPE_CHECKING:
    import napari
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import Event as CanvasEvent
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.lines import Line2D

    from napari_wsss.classes import ClassTable

__all__ = ["Curves", "Scores", "best_epoch"]

#: Sizes in pixels of the screen; the width follows the dock.
_LOSS_PX, _SCORES_PX, _GAP_PX, _LEFT_PX, _EDGE_PX, _AXIS_PX, _ROW_PX = 80, 130, 14, 48, 8, 32, 16
_MOST_IN_LEGEND = 12
#: Lines are told apart without their colours, too.
_MARKERS = "osD^vPX*"


class Scores(NamedTuple):
    """Which metrics of an epoch are scores.

    Attributes
    ----------
    overall
        Metric -> the name it is shown by; the first may choose the epoch.
    per_class
        What the metrics of single classes begin with, such as ``"ap "``.
    per_class_name
        Name of these, such as ``"average precision"``.
    """

    overall: Mapping[str, str]
    per_class: str
    per_class_name: str

    def of_class(self, name: str) -> str:
        """Return the metric of the class called `name`."""
        return self.per_class + name


class Curves(QWidget):
    """Loss above, scores from 0 to 1 below; values of the epoch under the mouse as text.

    Parameters
    ----------
    viewer
        Its theme gives the colours of axes and text.
    scores
        What is drawn.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, scores: Scores, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._scores = viewer, scores
        self._classes: ClassTable | None = None
        self._epochs = 1
        self._history: tuple[Mapping[str, float], ...] = ()
        self._canvas: FigureCanvasQTAgg | None = None
        self._laid_out: tuple[tuple[str, str], list[_Line]] | None = None
        self._drawn: dict[str, list[Line2D]] = {}
        self._best: list[Line2D] = []
        self.values = QLabel()
        self.values.setWordWrap(True)
        self.values.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._layout.addWidget(self.values)
        self.setVisible(False)
        viewer.events.theme.connect(self.redraw)

    @property
    def history(self) -> tuple[Mapping[str, float], ...]:
        """The metrics of the epochs that are drawn."""
        return self._history

    def show_history(
        self, history: Sequence[Mapping[str, float]], classes: ClassTable, epochs: int
    ) -> None:
        """Draw the epochs of a run.

        Parameters
        ----------
        history
            Metrics of each epoch, with ``"best"``: whether it was the best so far.
        classes
            Names and colours of the lines.
        epochs
            How many epochs the run has in all.
        """
        self._history, self._classes, self._epochs = tuple(history), classes, epochs
        self.redraw()

    def clear(self) -> None:
        """Draw nothing."""
        self._history = ()
        self.redraw()

    def disconnect_viewer(self) -> None:
        """Stop following the theme; for panels that go while the viewer stays."""
        self._viewer.events.theme.disconnect(self.redraw)

    # -- drawing ----------------------------------------------------------------------

    def redraw(self, event: object = None) -> None:
        """Draw the epochs, in the colours of the viewer's theme."""
        self.setVisible(bool(self._history))
        if not self._history or self._classes is None:
            return
        colors = _theme(self._viewer.theme)
        lines = [m for m in self._lines(self._classes, colors[0]) if self._has(m.metric)]
        canvas = self._canvas = self._canvas or self._made()
        # Axes and legend are made once; an epoch then costs only the drawing.
        if self._laid_out != (colors, lines):
            self._lay_out(lines, *colors)
            self._laid_out = (colors, lines)
        self._update()
        canvas.draw_idle()
        self._tell(best_epoch(self._history) or len(self._history))

    def _lay_out(self, lines: Sequence[_Line], text: str, back: str) -> None:
        """Make axes, lines without data, and the legend."""
        from matplotlib.ticker import MaxNLocator

        assert self._canvas is not None
        figure = self._canvas.figure
        figure.clear()
        figure.set_facecolor(back)
        columns = 1 if any(len(line.label) > 20 for line in lines) else 2
        rows = -(-min(len(lines), _MOST_IN_LEGEND) // columns)
        panes = [_LOSS_PX, _SCORES_PX] if lines else [_LOSS_PX + _SCORES_PX]
        height = _EDGE_PX + sum(panes) + _GAP_PX * (len(panes) - 1) + _AXIS_PX + rows * _ROW_PX
        self._canvas.setFixedHeight(height)
        axes = figure.subplots(len(panes), 1, squeeze=False, sharex=True)[:, 0]
        for ax in axes:
            _dress(ax, text, back)
        self._best = [ax.axvline(1, color=text, lw=0.8, ls=":", alpha=0.8) for ax in axes]
        self._drawn = {"loss": axes[0].plot([], [], color=text, lw=1.5, marker=".", ms=4)}
        axes[0].yaxis.set_major_locator(MaxNLocator(3))
        axes[0].set_ylabel("loss", labelpad=2)
        if lines:
            self._add_scores(axes[1], lines, text, columns)
        axes[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes[-1].set_xlabel("epoch", labelpad=1)
        self._place()

    def _add_scores(self, ax: Axes, lines: Sequence[_Line], text: str, columns: int) -> None:
        for line in lines:
            style: dict[str, Any] = {"color": line.color, "lw": line.width, "ls": line.style}
            artists = []
            if line.is_class:
                # A rim keeps yellow visible on white, and lines apart where they cross.
                artists += ax.plot([], [], color=text, lw=line.width + 1.3, alpha=0.45)
                style.update(marker=line.marker, ms=4, mec=text, mew=0.5)
            artists += ax.plot([], [], label=line.label, **style)
            self._drawn[line.metric] = artists
        ax.set_ylim(-0.03, 1.03)
        ax.set_yticks((0, 0.25, 0.5, 0.75, 1))
        ax.set_ylabel("score", labelpad=2)
        handles, labels = ax.get_legend_handles_labels()
        ax.figure.legend(
            handles[:_MOST_IN_LEGEND],
            labels[:_MOST_IN_LEGEND],
            loc="lower left",
            bbox_to_anchor=(0, 0),
            ncols=columns,
            frameon=False,
            labelcolor=text,
            fontsize=8,
            handlelength=1.8,
            columnspacing=1.0,
            labelspacing=0.25,
            borderaxespad=0.2,
        )

    def _update(self) -> None:
        """Put the epochs into the lines."""
        assert self._canvas is not None
        epochs = range(1, len(self._history) + 1)
        for metric, artists in self._drawn.items():
            values = [row.get(metric, math.nan) for row in self._history]
            for artist in artists:
                artist.set_data(epochs, values)
        best = best_epoch(self._history)
        for mark in self._best:
            mark.set_visible(best is not None)
            mark.set_xdata([best or 1] * 2)
        axes = self._canvas.figure.axes
        losses = [row["loss"] for row in self._history if row.get("loss", 0) > 0]
        axes[0].set_ylim(0, 1.08 * max(losses, default=1))
        axes[-1].set_xlim(0.5, max(self._epochs, len(self._history), 2) + 0.5)

    def _lines(self, classes: ClassTable, text: str) -> list[_Line]:
        styles = ("-", "--", "-.")
        lines = [
            _Line(metric, label, text, 2.0, styles[i % 3], "", False)
            for i, (metric, label) in enumerate(self._scores.overall.items())
        ]
        for i, info in enumerate(classes.classes):
            metric, marker = self._scores.of_class(info.name), _MARKERS[i % len(_MARKERS)]
            label = info.name if len(info.name) <= 44 else info.name[:43] + "…"
            lines.append(_Line(metric, label, info.color, 1.3, "-", marker, True))
        return lines

    def _has(self, metric: str) -> bool:
        return any(metric in row for row in self._history)

    # -- the canvas -------------------------------------------------------------------

    def _made(self) -> FigureCanvasQTAgg:
        """Make the canvas; matplotlib is not loaded before there is something to draw."""
        canvas = _canvas_class()()
        canvas.mpl_connect("resize_event", self._place)
        canvas.mpl_connect("motion_notify_event", self._pointed)
        canvas.mpl_connect("figure_leave_event", self._left)
        self._layout.insertWidget(0, canvas)
        return canvas

    def _place(self, event: CanvasEvent | None = None) -> None:
        """Keep margins in pixels, which ratios of the figure would not."""
        canvas = self._canvas
        if canvas is None or not canvas.figure.axes:
            return
        width, height = canvas.width(), canvas.height()
        axes = canvas.figure.axes
        panes = [_LOSS_PX, _SCORES_PX] if len(axes) == 2 else [_LOSS_PX + _SCORES_PX]
        top = height - _EDGE_PX
        for ax, pane in zip(axes, panes, strict=True):
            right = max(width - _EDGE_PX, _LEFT_PX + 20)
            ax.set_position(
                (_LEFT_PX / width, (top - pane) / height, (right - _LEFT_PX) / width,
                 pane / height)
            )  # fmt: skip
            top -= pane + _GAP_PX

    def _pointed(self, event: Any) -> None:
        if event.xdata is not None and self._history:
            self._tell(min(max(round(event.xdata), 1), len(self._history)))

    def _left(self, event: CanvasEvent) -> None:
        if self._history:
            self._tell(best_epoch(self._history) or len(self._history))

    def _tell(self, epoch: int) -> None:
        """Show the values of `epoch` (from 1) as text."""
        row, names = self._history[epoch - 1], dict(self._scores.overall)
        if self._classes is not None:
            names.update({self._scores.of_class(name): name for name in self._classes.names})
        best = " (kept)" if epoch == best_epoch(self._history) else ""
        values = [f"loss {row['loss']:.3f}"] if "loss" in row else []
        values += [
            f"{label} {row[metric]:.2f}" for metric, label in names.items() if metric in row
        ]
        self.values.setText(f"Epoch {epoch}{best}: {', '.join(values)}")


class _Line(NamedTuple):
    metric: str
    label: str
    color: str
    width: float
    style: str
    marker: str
    is_class: bool


def best_epoch(history: Sequence[Mapping[str, float]]) -> int | None:
    """Return the epoch (from 1) whose weights are kept; None without any."""
    found = [i for i, row in enumerate(history, 1) if row.get("best")]
    return found[-1] if found else None


def _theme(name: str) -> tuple[str, str]:
    """Return the colours of text and background of a theme of napari."""
    from napari.utils.theme import get_theme

    theme = get_theme(name)
    return theme.text.as_hex(format="long"), theme.background.as_hex(format="long")


def _dress(ax: Axes, text: str, back: str) -> None:
    ax.set_facecolor(back)
    ax.tick_params(colors=text, labelsize=8, length=3, pad=2)
    ax.label_outer()
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_color(text)
        label.set_fontsize(8)
    for side, spine in ax.spines.items():
        spine.set_color(text)
        spine.set_alpha(0.5)
        spine.set_visible(side in ("left", "bottom"))
    ax.grid(axis="y", color=text, alpha=0.15, lw=0.6)


def _canvas_class() -> type[FigureCanvasQTAgg]:
    from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
    from matplotlib.figure import Figure

    class Canvas(FigureCanvasQTAgg):
        """As wide as the dock, and transparent to the wheel, which scrolls the panel."""

        def __init__(self) -> None:
            super().__init__(Figure())
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

        def minimumSizeHint(self) -> QSize:
            return QSize(100, 100)

        def wheelEvent(self, event: QWheelEvent) -> None:
            event.ignore()

    return Canvas
