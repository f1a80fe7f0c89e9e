"""Choosing a patch of the data set to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QCompleter,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

if TYPE_CHECKING:
    from napari_wsss.patches import PatchSet

__all__ = ["PatchChooser"]


class PatchChooser(QWidget):
    """Chooses a patch by number or name.

    Attributes
    ----------
    chosen
        Signal with the patch's index in the data set.
    """

    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._patches: PatchSet | None = None
        self._offered = np.zeros(0, int)
        self.back, self.forward = _arrow("◀", "Previous patch"), _arrow("▶", "Next patch")
        self.number = QSpinBox()
        self.number.setKeyboardTracking(False)
        self.number.setAccessibleName("Number of the patch")
        self.count = QLabel()
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of a patch")
        self.several = QCheckBox("Only patches of several classes")
        self.several.setToolTip(
            "<p>The mask of a patch of one class is that class everywhere: there is little to "
            "look at.</p>"
        )
        row = QHBoxLayout()
        for widget in (self.back, self.number, self.count, self.forward):
            row.addWidget(widget)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        layout.addWidget(self.name)
        layout.addWidget(self.several)
        self.back.clicked.connect(lambda: self.number.stepDown())
        self.forward.clicked.connect(lambda: self.number.stepUp())
        self.number.valueChanged.connect(self._numbered)
        self.name.editingFinished.connect(self._named)
        self.several.toggled.connect(self._fill)
        self.set_patches(None)

    @property
    def index(self) -> int | None:
        """Index of the patch in the data set; None without one."""
        at = self.number.value() - 1
        return int(self._offered[at]) if 0 <= at < len(self._offered) else None

    @index.setter
    def index(self, i: int) -> None:
        (at,) = np.nonzero(self._offered == i)
        if len(at):
            self.number.setValue(int(at[0]) + 1)

    def set_patches(self, patches: PatchSet | None) -> None:
        """Offer the patches of a set."""
        self._patches = patches
        several = patches is not None and bool((~patches.single_label).any())
        self.several.setEnabled(several)
        self.several.blockSignals(True)
        self.several.setChecked(several)
        self.several.blockSignals(False)
        if patches is not None:
            completer = QCompleter(list(patches.names), self)
            completer.setFilterMode(Qt.MatchFlag.MatchContains)
            completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
            self.name.setCompleter(completer)
            completer.activated.connect(self._named)
        self._fill()

    def _fill(self) -> None:
        before, patches = self.index, self._patches
        self._offered = np.arange(0 if patches is None else len(patches))
        if patches is not None and self.several.isChecked():
            self._offered = np.flatnonzero(~patches.single_label)
        total = len(self._offered)
        self.number.blockSignals(True)
        self.number.setRange(min(1, total), total)
        if before is not None:
            self.index = before
        self.number.blockSignals(False)
        self.count.setText(f"of {total}")
        for widget in (self.back, self.forward, self.number, self.name):
            widget.setEnabled(total > 0)
        self._show_name()
        if self.index is not None and self.index != before:
            self.chosen.emit(self.index)

    def _numbered(self) -> None:
        self._show_name()
        if self.index is not None:
            self.chosen.emit(self.index)

    def _named(self, _: str = "") -> None:
        """Go to the patch that was typed; to what it was, if there is none of that name."""
        patches = self._patches
        if patches is not None and self.name.text() in patches.names:
            i = patches.names.index(self.name.text())
            if i not in self._offered:
                self.several.setChecked(False)
            self.index = i
        self._show_name()

    def _show_name(self) -> None:
        i, patches = self.index, self._patches
        self.name.setText("" if i is None or patches is None else patches.names[i])
        self.name.setCursorPosition(0)


def _arrow(text: str, tip: str) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tip)
    button.setAutoRepeat(False)
    return button
