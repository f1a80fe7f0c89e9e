"""The classes as buttons: key, colour, name and how many patches there are of each."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPoint, Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import (
    QColorDialog,
    QGridLayout,
    QInputDialog,
    QLabel,
    QMenu,
    QToolButton,
    QWidget,
)

from napari_wsss.classes import ClassTable
from napari_wsss.panels.label_keys import CLASS_KEYS, class_key
from napari_wsss.panels.support.class_button import ClassButton

__all__ = ["ClassButtons"]


class ClassButtons(QWidget):
    """One row per class. A button that is down is a class of the patch, or of the brush.

    Attributes
    ----------
    pressed
        Signal with the index of a class whose button was clicked.
    renamed, recolored
        Signals with an index, and the new name or colour.
    removed
        Signal with the index of a class that is to go.
    """

    pressed = Signal(int)
    renamed = Signal(int, str)
    recolored = Signal(int, str)
    removed = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._classes: ClassTable | None = None
        self._buttons: list[ClassButton] = []
        self._counts: list[QLabel] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)

    def set_classes(self, classes: ClassTable) -> None:
        """Show these classes."""
        if classes == self._classes:
            return
        self._classes = classes
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = None if item is None else item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()
        self._buttons, self._counts = [], []
        for i, info in enumerate(classes.classes):
            self._add_row(i, info.name, info.color)

    def show_state(self, code: int, counts: Sequence[int]) -> None:
        """Show which classes `code` holds, and how many patches show each."""
        for i, (button, count) in enumerate(zip(self._buttons, self._counts, strict=True)):
            button.setChecked(bool(code >> i & 1))
            count.setText(str(counts[i]))

    def _add_row(self, i: int, name: str, color: str) -> None:
        assert self._classes is not None
        key = QLabel(class_key(i))
        key.setAlignment(Qt.AlignmentFlag.AlignCenter)
        key.setFixedWidth(22 if len(self._classes) <= len(CLASS_KEYS) else 34)
        key.setObjectName("key")
        key.setStyleSheet("QLabel#key { border: 1px solid palette(mid); border-radius: 3px; }")
        *before, last = key.text().split() or [""]
        first = f"{before[0]}, then " if before else ""
        key.setToolTip(
            f"{first}{last}: on and off. {first}Shift + {last}: only {name}, and on to the next"
        )
        button = ClassButton(name, color)
        button.clicked.connect(lambda: self.pressed.emit(i))
        count = QLabel("0")
        count.setMinimumWidth(28)
        count.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        count.setToolTip("Patches with this class")
        more = QToolButton()
        more.setText("⋯")
        more.setToolTip("Rename, recolour or remove")
        more.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        more.clicked.connect(lambda: self._menu(i, more.mapToGlobal(QPoint(0, more.height()))))
        for column, widget in enumerate((key, button, count, more)):
            self._grid.addWidget(widget, i, column)
        self._buttons.append(button)
        self._counts.append(count)

    def _menu(self, i: int, at: QPoint) -> None:
        menu = QMenu(self)
        menu.addAction("Rename …", lambda: self._rename(i))
        menu.addAction("Colour …", lambda: self._recolor(i))
        menu.addAction("Remove", lambda: self.removed.emit(i))
        menu.exec(at)

    def _rename(self, i: int) -> None:
        assert self._classes is not None
        old = self._classes.names[i]
        name, ok = QInputDialog.getText(self, "Rename the class", "Name:", text=old)
        if ok and name.strip() and name.strip() != old:
            self.renamed.emit(i, name.strip())

    def _recolor(self, i: int) -> None:
        assert self._classes is not None
        info = self._classes.classes[i]
        color = QColorDialog.getColor(QColor(info.color), self, f"Colour of {info.name}")
        if color.isValid():
            self.recolored.emit(i, color.name())
