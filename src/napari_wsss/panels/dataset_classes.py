"""Editing names and colours of classes."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QCheckBox,
    QColorDialog,
    QGridLayout,
    QLabel,
    QLineEdit,
    QToolButton,
    QWidget,
)

from napari_wsss.classes import ClassInfo, ClassTable

__all__ = ["ClassEditor"]

_SWATCH_PX = 16


class ClassEditor(QWidget):
    """One row per class: colour and name; with mask values also whether it is a class.

    Parameters
    ----------
    choose
        Whether the rows are values found in masks, of which some may be no class.

    Attributes
    ----------
    edited
        Signal: a name, a colour or a choice was changed by the user.
    """

    edited = Signal()

    def __init__(self, *, choose: bool = False, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choose = choose
        self._rows: list[_Row] = []
        self._ignore: tuple[int, ...] = ()
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self._grid.setColumnStretch(3, 1)

    @property
    def filled(self) -> bool:
        """Whether it shows any class."""
        return bool(self._rows)

    def classes(self) -> ClassTable:
        """Return the table as edited.

        Raises
        ------
        DataError
            If a name is empty or occurs twice, or fewer than two classes are chosen.
        """
        chosen = [row for row in self._rows if row.used.isChecked()]
        left_out = [
            row.value for row in self._rows if not row.used.isChecked() and row.value is not None
        ]
        return ClassTable(
            tuple(ClassInfo(row.name.text().strip(), row.color, row.value) for row in chosen),
            (*self._ignore, *left_out),
        )

    def set_classes(self, classes: ClassTable | None) -> None:
        """Show another table; None shows none."""
        for row in self._rows:
            row.remove(self._grid)
        self._rows = []
        self._ignore = () if classes is None else classes.ignore
        for at, info in enumerate(() if classes is None else classes.classes):
            row = _Row(info, self._choose)
            row.add(self._grid, at)
            row.used.toggled.connect(self.edited)
            row.name.textEdited.connect(self.edited)
            row.swatch.clicked.connect(lambda _=False, row=row: self._recolor(row))
            self._rows.append(row)

    def set_name(self, index: int, name: str) -> None:
        """Name a class, as if typed."""
        self._rows[index].name.setText(name)
        self.edited.emit()

    def set_color(self, index: int, color: str) -> None:
        """Give a class a colour, ``"#rrggbb"``."""
        self._rows[index].show_color(color)
        self.edited.emit()

    def _recolor(self, row: _Row) -> None:
        color = QColorDialog.getColor(QColor(row.color), self, f"Colour of {row.name.text()}")
        if color.isValid():
            row.show_color(color.name())
            self.edited.emit()


class _Row:
    def __init__(self, info: ClassInfo, choose: bool) -> None:
        self.value = info.value
        self.used = QCheckBox()
        self.used.setChecked(True)
        self.used.setVisible(choose)
        self.used.setToolTip("Off: this value is no class (glass, not annotated)")
        self.number = QLabel("" if info.value is None else str(info.value))
        self.number.setVisible(choose)
        self.number.setToolTip("Value in the masks")
        self.swatch = QToolButton()
        self.swatch.setToolTip("Choose a colour")
        self.name = QLineEdit(info.name)
        self.name.setAccessibleName("Name of the class")
        self.show_color(info.color)

    def show_color(self, color: str) -> None:
        self.color = color
        pixmap = QPixmap(_SWATCH_PX, _SWATCH_PX)
        pixmap.fill(QColor(color))
        self.swatch.setIcon(QIcon(pixmap))

    def add(self, grid: QGridLayout, at: int) -> None:
        for column, widget in enumerate((self.used, self.number, self.swatch, self.name)):
            grid.addWidget(widget, at, column)

    def remove(self, grid: QGridLayout) -> None:
        for widget in (self.used, self.number, self.swatch, self.name):
            grid.removeWidget(widget)
            widget.setParent(None)
            widget.deleteLater()
