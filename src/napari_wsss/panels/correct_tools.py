"""What one paints with: classes with colour and key, and brushes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.panels.label_keys import CLASS_KEYS, MORE_KEY, class_key, key_name
from napari_wsss.panels.support.class_button import SWATCH_PX, ClassButton, swatch

if TYPE_CHECKING:
    from napari.layers import Labels

    from napari_wsss.classes import ClassTable

__all__ = ["AreaTable", "PaintTools"]

_BACKGROUND_KEY = "N"
#: Diameter of the brushes in pixels of the result.
_BRUSHES = {"S": 5, "M": 15, "L": 50, "XL": 150}


class PaintTools(QWidget):
    """Buttons for classes and brushes, for the layer that is painted on.

    Keys work on that layer: those of the label panel for the classes, N for background. As
    there, the classes after the last key have two, of which the first is the same for all.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._layer: Labels | None = None
        self._keys: dict[str, int] = {}
        self._further: dict[str, int] = {}  # after `MORE_KEY`
        self._awaits_second = False
        self._classes = QButtonGroup(self)
        self._classes.idClicked.connect(self._choose)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._brushes = QButtonGroup(self)
        brushes = QHBoxLayout()
        brushes.setSpacing(4)
        brushes.addWidget(QLabel("Brush"))
        for name, size in _BRUSHES.items():
            button = _tool(name, f"Brush of {size} pixels of the result")
            self._brushes.addButton(button, size)
            brushes.addWidget(button)
        self._fill = _tool("Fill", "Fill a patch of one class at a click")
        self._brushes.addButton(self._fill, 0)
        brushes.addWidget(self._fill)
        brushes.addStretch(1)
        self._brushes.idClicked.connect(self._take_brush)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(self._grid)
        layout.addLayout(brushes)

    def paint_on(self, layer: Labels, classes: ClassTable) -> None:
        """Work on `layer` from now on."""
        self.release()
        self._layer = layer
        rows: Sequence[tuple[int, str, str | None, str]] = [
            *((i + 1, c.name, c.color, class_key(i)) for i, c in enumerate(classes.classes)),
            (0, "background", None, _BACKGROUND_KEY),
        ]
        for row, (label, name, color, key) in enumerate(rows):
            self._add(row, label, name, color, key)
            second = key.removeprefix(f"{MORE_KEY} ")
            if key:
                (self._keys if second == key else self._further)[second] = label
        for key in (*self._keys, *([MORE_KEY] if self._further else [])):
            layer.bind_key(key, self._presser(key), overwrite=True)
        layer.events.selected_label.connect(self._follow)
        layer.events.brush_size.connect(self._follow)
        layer.events.mode.connect(self._follow)
        self._follow()

    def release(self) -> None:
        """Let go of the layer, and show no classes."""
        layer, self._layer = self._layer, None
        self._keys.clear()
        self._further.clear()
        self._awaits_second = False
        if layer is not None:
            for emitter in ("selected_label", "brush_size", "mode"):
                getattr(layer.events, emitter).disconnect(self._follow)
        for button in self._classes.buttons():
            self._classes.removeButton(button)
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = None if item is None else item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()

    def press(self, event: QKeyEvent) -> bool:
        """Choose the class of a key; returns whether it has one, or is the first of two."""
        return self._press(key_name(event))

    def _press(self, key: str) -> bool:
        if key == MORE_KEY and self._further:
            self._awaits_second = not self._awaits_second
            return True
        second, self._awaits_second = self._awaits_second, False
        if key not in self._keys:
            return False
        label = self._further.get(key) if second and key in CLASS_KEYS else self._keys[key]
        if label is not None:
            self._choose(label)
        return True

    def _add(self, row: int, label: int, name: str, color: str | None, key: str) -> None:
        sign = QLabel(key)
        sign.setAlignment(Qt.AlignmentFlag.AlignCenter)
        sign.setMinimumWidth(22)
        sign.setObjectName("key")
        sign.setStyleSheet("QLabel#key { border: 1px solid palette(mid); border-radius: 3px; }")
        button = ClassButton(name, color)
        keys = f" (key {key.replace(' ', ', then ')})" if key else ""
        button.setToolTip(f"Paint {name}{keys}")
        self._classes.addButton(button, label)
        self._grid.addWidget(sign, row, 0)
        self._grid.addWidget(button, row, 1)

    def _presser(self, key: str) -> Callable[[Any], object]:
        return lambda _: self._press(key)

    def _choose(self, label: int) -> None:
        self._awaits_second = False
        if self._layer is not None:
            self._layer.selected_label = label
            if self._layer.mode not in ("paint", "fill", "polygon"):
                self._layer.mode = "paint"

    def _take_brush(self, size: int) -> None:
        if self._layer is None:
            return
        if size:
            self._layer.brush_size = size
        self._layer.mode = "paint" if size else "fill"

    def _follow(self, _: object = None) -> None:
        """Show what the layer says, whoever changed it."""
        if self._layer is None:
            return
        chosen = self._classes.button(int(self._layer.selected_label))
        _press_only(self._classes, chosen)
        mode = str(self._layer.mode)
        size = {"fill": 0, "paint": int(self._layer.brush_size)}.get(mode, -1)
        _press_only(self._brushes, self._brushes.button(size))


class AreaTable(QWidget):
    """Area of each class over the whole slide: as stored, and with what is painted."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        self._classes: ClassTable | None = None
        self._cells: dict[str, tuple[QLabel, QLabel, QLabel]] = {}

    def show_areas(
        self,
        classes: ClassTable,
        before: Sequence[Mapping[str, Any]],
        after: Sequence[Mapping[str, Any]],
    ) -> None:
        """Show the rows of two summaries, background left out."""
        if classes != self._classes:
            self._build(classes, "mm²" if before[0]["area_mm2"] is not None else "px")
        for old, new in zip(before[1:], after[1:], strict=True):
            kind = "pixels" if old["area_mm2"] is None else "area_mm2"
            change = new[kind] - old[kind]
            texts = (
                _number(old[kind], kind),
                _number(new[kind], kind),
                "" if new["pixels"] == old["pixels"] else _number(change, kind, signed=True),
            )
            for label, text in zip(self._cells[old["class"]], texts, strict=True):
                label.setText(text)

    def clear(self) -> None:
        """Show nothing."""
        self._classes, self._cells = None, {}
        while self._grid.count():
            item = self._grid.takeAt(0)
            widget = None if item is None else item.widget()
            if widget is not None:
                widget.setParent(None)
                widget.deleteLater()

    def _build(self, classes: ClassTable, unit: str) -> None:
        self.clear()
        self._classes = classes
        for column, text in enumerate(("stored", "painted", "change"), 2):
            self._grid.addWidget(_right(f"{text}\n{unit}"), 0, column)
        for row, info in enumerate(classes.classes, 1):
            sign = QLabel()
            sign.setPixmap(swatch(info.color).pixmap(SWATCH_PX, SWATCH_PX))
            name = QLabel(info.name)
            name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
            name.setToolTip(info.name)
            self._grid.addWidget(sign, row, 0)
            self._grid.addWidget(name, row, 1)
            self._cells[info.name] = (_right(), _right(), _right())
            for column, label in enumerate(self._cells[info.name], 2):
                self._grid.addWidget(label, row, column)


def _tool(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setCheckable(True)
    button.setMinimumWidth(34)
    button.setStyleSheet("QPushButton { padding: 3px 6px; }")
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    return button


def _press_only(group: QButtonGroup, chosen: Any) -> None:
    group.setExclusive(False)
    for button in group.buttons():
        button.setChecked(button is chosen)
    group.setExclusive(True)


def _right(text: str = "") -> QLabel:
    label = QLabel(text)
    label.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
    return label


def _number(value: float, kind: str, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if kind == "pixels":
        text = format(int(value), f"{sign},d")
    else:  # of a change the first digit that is not 0, however small it is
        least = math.ceil(-math.log10(abs(value))) if signed and value else 0
        text = format(value, f"{sign},.{max(4, least) if signed else 3}f")
    return text.replace("-", "−")
