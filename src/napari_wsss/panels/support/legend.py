"""The legend of a segmentation, which napari does not have: colour, name, share and area."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPixmap
from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QSizePolicy, QWidget
from superqt import QElidingLabel

from napari_wsss.classes import ClassTable

__all__ = ["Legend", "area_text", "share_text"]

_SWATCH_PX = 14


class Legend(QWidget):
    """One row per class: whether it is shown, its colour, name, share of the tissue, and area.

    Attributes
    ----------
    hidden_changed
        Signal: classes were shown or hidden by the user; see `hidden`.
    """

    hidden_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: ClassTable | None = None
        self._rows: list[_Row] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(2, 1)
        self._total = _number("Of the tissue that was computed")
        self.setVisible(False)

    @property
    def classes(self) -> ClassTable | None:
        """The classes that are shown; None for an empty legend."""
        return self._classes

    @property
    def hidden(self) -> frozenset[int]:
        """Indices of the classes that the user hid."""
        return frozenset(i for i, row in enumerate(self._rows) if not row.shown.isChecked())

    def set_classes(self, classes: ClassTable | None) -> None:
        """Show other classes, all of them visible and without areas; None empties the legend."""
        if classes == self._classes:
            return
        for row in self._rows:
            row.remove(self._grid)
        self._grid.removeWidget(self._total)
        self._classes, self._rows = classes, []
        for i, info in enumerate(() if classes is None else classes.classes):
            row = _Row(info.name, info.color)
            row.shown.toggled.connect(self.hidden_changed)
            row.add(self._grid, i)
            self._rows.append(row)
        self._grid.addWidget(self._total, len(self._rows), 2, 1, 3)
        self._total.clear()
        self._total.setVisible(False)
        self.setVisible(bool(self._rows))

    def set_areas(self, rows: Sequence[Mapping[str, Any]] | None) -> None:
        """Show shares and areas.

        Parameters
        ----------
        rows
            As ``SlideSegmentation.summary()["classes"]``: mappings with ``class``,
            ``share_of_tissue`` (0 to 1) and ``area_mm2`` (None if the µm/px is unknown);
            rows that are no class of the legend are left out. None clears all numbers.
        """
        by_name = {row["class"]: row for row in rows or ()}
        total = 0.0
        for row in self._rows:
            found = by_name.get(row.name.text())
            share = None if found is None else found["share_of_tissue"]
            area = None if found is None else found["area_mm2"]
            total += area or 0.0
            row.share.setText("" if share is None else share_text(share))
            row.area.setText("" if area is None else area_text(area))
        self._total.setText(f"tissue {area_text(total)}" if total else "")
        self._total.setVisible(bool(total))


class _Row:
    """The widgets of one class."""

    def __init__(self, name: str, color: str) -> None:
        self.shown = QCheckBox()
        self.shown.setChecked(True)
        self.shown.setToolTip(f"Show {name} on the slide")
        self.shown.setAccessibleName(f"Show {name}")
        self.swatch = QLabel()
        self.swatch.setPixmap(_swatch(color))
        self.name = QElidingLabel(name)
        self.name.setToolTip(name)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.share = _number("Share of the tissue that was computed")
        self.area = _number("Area that was computed")

    @property
    def _widgets(self) -> tuple[QWidget, ...]:
        return self.shown, self.swatch, self.name, self.share, self.area

    def add(self, grid: QGridLayout, row: int) -> None:
        for column, widget in enumerate(self._widgets):
            grid.addWidget(widget, row, column)

    def remove(self, grid: QGridLayout) -> None:
        for widget in self._widgets:
            grid.removeWidget(widget)
            widget.deleteLater()


def share_text(share: float) -> str:
    """Return ``"12.3 %"``; ``"< 0.1 %"`` for what would round to nothing."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def area_text(mm2: float) -> str:
    """Return an area with three figures: ``"12.3 mm²"``, or ``"451 µm²"`` if it is small."""
    value, unit = (mm2, "mm²") if mm2 >= 0.001 or mm2 == 0 else (mm2 * 1e6, "µm²")
    digits = 0 if value >= 100 or value == 0 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}"


def _number(tip: str) -> QLabel:
    label = QLabel()
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    label.setToolTip(tip)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _swatch(color: str) -> QPixmap:
    """Return a square of the colour; its rim keeps it visible on any theme."""
    pixmap = QPixmap(_SWATCH_PX, _SWATCH_PX)
    pixmap.fill(QColor(color))
    with_rim = QPainter(pixmap)
    with_rim.setPen(QColor(128, 128, 128))
    with_rim.drawRect(0, 0, _SWATCH_PX - 1, _SWATCH_PX - 1)
    with_rim.end()
    return pixmap
