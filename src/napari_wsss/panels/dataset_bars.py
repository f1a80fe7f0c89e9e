"""Counts as bars, painted by Qt: patches per class and per combination of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from qtpy.QtCore import QEvent, QPoint, QRect, QSize, Qt
from qtpy.QtGui import QColor, QHelpEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

__all__ = ["Bar", "CountBars", "shortened"]

#: The indent is that of labels in napari's style.
_GAP_PX, _INDENT_PX, _NAME_SHARE = 4, 4, 0.42


class Bar(NamedTuple):
    """One row.

    Attributes
    ----------
    name
        What is counted.
    patches
        In how many patches.
    colors
        ``"#rrggbb"`` of the classes; several share the bar.
    """

    name: str
    patches: int
    colors: tuple[str, ...]


def shortened(name: str, fits: Callable[[str], bool]) -> str:
    """Return a name that fits or, of several classes, all of them cut alike.

    Cut at the end, combinations that begin alike would read the same.

    Parameters
    ----------
    name
        Of one class, which stays as it is, or of several with " + " between them.
    fits
        Whether a text does.
    """
    parts = name.split(" + ")
    if fits(name) or len(parts) == 1:
        return name
    for most in range(max(map(len, parts)) - 1, 1, -1):
        cut = " + ".join(p if len(p) <= most else f"{p[: most - 1]}." for p in parts)
        if fits(cut):
            return cut
    return name


class CountBars(QWidget):
    """Name, bar and number in a row each; what is cut off stands in the tool tip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bars: tuple[Bar, ...] = ()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The rows."""
        return self._bars

    def set_bars(self, bars: Sequence[Bar]) -> None:
        """Show other rows."""
        self._bars = tuple(bars)
        # The picture in words, for screen readers.
        self.setAccessibleName(", ".join(f"{bar.name}: {bar.patches}" for bar in self._bars))
        self.setVisible(bool(self._bars))
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """As high as its rows; as wide as it is given."""
        return QSize(200, len(self._bars) * self._row_px())

    def _row_px(self) -> int:
        return self.fontMetrics().height() + _GAP_PX

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the rows."""
        painter = QPainter(self)
        metrics, row_px = self.fontMetrics(), self._row_px()
        text = self.palette().color(self.foregroundRole())
        most = max([1, *(bar.patches for bar in self._bars)])
        name_px = int(self.width() * _NAME_SHARE)
        number_px = metrics.horizontalAdvance(f"{most:,}") + 6
        bar_px = max(10, self.width() - _INDENT_PX - name_px - number_px - 6)
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter

        def elided(name: str) -> str:
            return metrics.elidedText(name, Qt.TextElideMode.ElideRight, name_px - 6)

        for i, bar in enumerate(self._bars):
            top = i * row_px
            name = elided(shortened(bar.name, lambda t: elided(t) == t))
            painter.setPen(text)
            painter.drawText(QRect(_INDENT_PX, top, name_px, row_px), left, name)
            number = QRect(self.width() - number_px, top, number_px, row_px)
            painter.drawText(number, right, f"{bar.patches:,}")
            length = round(bar_px * bar.patches / most)
            self._draw(
                painter, QRect(_INDENT_PX + name_px, top + 3, length, row_px - 6), bar.colors
            )
        painter.end()

    @staticmethod
    def _draw(painter: QPainter, box: QRect, colors: Sequence[str]) -> None:
        """Draw a bar; its colours lie one above the other, each as long as the count."""
        if box.width() < 1:
            return
        shown = colors or ("#808080",)
        for k, color in enumerate(shown):
            top = box.top() + round(k * box.height() / len(shown))
            end = box.top() + round((k + 1) * box.height() / len(shown))
            painter.fillRect(QRect(box.left(), top, box.width(), end - top), QColor(color))
        # A rim keeps yellow visible on white and black on black.
        painter.setPen(QColor(128, 128, 128))
        painter.drawRect(box.adjusted(0, 0, -1, -1))

    def event(self, event: QEvent | None) -> bool:
        """Show the whole name and number of a row."""
        if event is not None and event.type() == QEvent.Type.ToolTip:
            assert isinstance(event, QHelpEvent)
            row = event.pos().y() // self._row_px()
            if 0 <= row < len(self._bars):
                bar = self._bars[row]
                at = self.mapToGlobal(QPoint(event.pos().x(), event.pos().y()))
                QToolTip.showText(at, f"{bar.name}: {bar.patches:,} patches", self)
                return True
        return super().event(event)
