"""A button with the colour and the name of a class."""

from __future__ import annotations

from qtpy.QtCore import QSize, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap, QResizeEvent
from qtpy.QtWidgets import QPushButton, QSizePolicy, QWidget

__all__ = ["SWATCH_PX", "ClassButton", "swatch"]

SWATCH_PX = 14
#: Of the button's width, what is none of the name's: rim, swatch and the gap behind it.
_BESIDE_PX = 2 * 7 + SWATCH_PX + 6


class ClassButton(QPushButton):
    """Down or not; a name that is too long ends in "…", and stands in the tool tip.

    Parameters
    ----------
    name, color
        Of the class; None for the colour of no class.
    """

    def __init__(self, name: str, color: str | None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._name = name
        self.setCheckable(True)
        self.setIcon(swatch(color))
        self.setIconSize(QSize(SWATCH_PX, SWATCH_PX))
        self.setStyleSheet("QPushButton { text-align: left; padding: 3px 6px; }")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setToolTip(name)
        self.setAccessibleName(name)
        # The keys belong to the viewer, also after a click here.
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._show_name()

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Show as much of the name as there is room for."""
        super().resizeEvent(event)
        self._show_name()

    def _show_name(self) -> None:
        room = max(0, self.width() - _BESIDE_PX)
        shown = self.fontMetrics().elidedText(self._name, Qt.TextElideMode.ElideRight, room)
        # Qt takes what follows a single "&" for a key.
        self.setText(shown.replace("&", "&&"))


def swatch(color: str | None) -> QIcon:
    """Return a square of a colour; an empty one for None."""
    pixmap = QPixmap(SWATCH_PX, SWATCH_PX)
    pixmap.fill(QColor(color) if color else Qt.GlobalColor.transparent)
    return QIcon(pixmap)
