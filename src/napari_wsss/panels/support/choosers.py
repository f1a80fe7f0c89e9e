"""Choosing a layer or a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from qtpy.QtCore import Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QComboBox, QFileDialog, QHBoxLayout, QLineEdit, QToolButton, QWidget

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["LayerChooser", "PathField"]

#: What of a layer decides whether it can be a slide, and how large its pixels are.
_PLACE = ("scale", "rotate", "shear", "affine", "units")


class LayerChooser(QComboBox):
    """A list of the viewer's layers that fit; follows the viewer.

    Not magicgui's: its containers evaluate everything anew for each change of the layer list,
    and lag on large images.

    Parameters
    ----------
    viewer
        Whose layers are offered, the topmost first.
    accepts
        Says whether a layer is offered.
    otherwise
        Says which ones are offered if there is no such layer, so that the panel can tell what is
        wrong with them; by default none.

    Attributes
    ----------
    chosen
        Signal with the layer, or None, whenever it is another one than before, or got other
        units, scale or turn: what a panel says of a layer is to be done by doing it.
    """

    chosen = Signal(object)

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        accepts: Callable[[Layer], bool],
        parent: QWidget | None = None,
        *,
        otherwise: Callable[[Layer], bool] | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._accepts, self._otherwise = viewer, accepts, otherwise
        self._layers: list[Layer] = []
        self._last: Layer | None = None
        self._place: tuple[Any, ...] = ()
        self._followed: list[Layer] = []
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        for emitter in self._emitters():
            emitter.connect(self.refresh)
        self.currentIndexChanged.connect(self._announce)
        self.refresh()

    @property
    def layer(self) -> Layer | None:
        """The chosen layer; None if none fits."""
        index = self.currentIndex()
        return self._layers[index] if 0 <= index < len(self._layers) else None

    @layer.setter
    def layer(self, layer: Layer) -> None:
        if layer in self._layers:
            self.setCurrentIndex(self._layers.index(layer))

    def refresh(self, event: object = None) -> None:
        """Read the layers anew, keeping the choice; called whenever the layer list changes."""
        kept = self._last
        self.blockSignals(True)
        layers = list(reversed(self._viewer.layers))
        self._layers = [layer for layer in layers if self._accepts(layer)]
        if self._otherwise is not None and not self._layers:
            self._layers = [layer for layer in layers if self._otherwise(layer)]
        self.clear()
        self.addItems([layer.name for layer in self._layers])
        if kept in self._layers:
            self.setCurrentIndex(self._layers.index(kept))
        self.setEnabled(bool(self._layers))
        self.blockSignals(False)
        self._follow(self._layers)
        self._announce()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer; for panels that go while it stays."""
        for emitter in self._emitters():
            emitter.disconnect(self.refresh)
        self._follow(())

    def _emitters(self) -> tuple:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered, events.renamed

    def _follow(self, layers: Sequence[Layer]) -> None:
        """Notice when one of these layers is laid otherwise, and of no other any more."""
        for layer in self._followed:
            for name in _PLACE:
                getattr(layer.events, name).disconnect(self._announce)
        self._followed = list(layers)
        for layer in self._followed:
            for name in _PLACE:
                getattr(layer.events, name).connect(self._announce)

    def _announce(self, _: object = None) -> None:
        layer = self.layer
        place = () if layer is None else _place_of(layer)
        if layer is not self._last or place != self._place:
            self._last, self._place = layer, place
            self.setToolTip(layer.name if layer is not None else "")
            self.chosen.emit(layer)


class PathField(QWidget):
    """A path that can be typed, browsed for, or dropped.

    Parameters
    ----------
    kind
        ``"open"`` an existing file, ``"folder"`` a folder, ``"save"`` a file to write.
    caption
        Title of the dialog, and what the empty field shows.
    pattern
        Files that the dialog shows, such as ``"Models (*.safetensors)"``.

    Attributes
    ----------
    changed
        Signal with the path, or None, when it is another one.
    """

    changed = Signal(object)

    def __init__(
        self,
        kind: Literal["open", "folder", "save"],
        caption: str,
        pattern: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._kind, self._caption, self._pattern = kind, caption, pattern
        self._last: Path | None = None
        self.line = QLineEdit()
        self.line.setPlaceholderText(caption)
        self.line.setClearButtonEnabled(True)
        self.line.editingFinished.connect(self._announce)
        self.line.textChanged.connect(self._cleared)
        self._browse = QToolButton()
        self._browse.setText("…")
        self._browse.setToolTip(f"{caption} …")
        self._browse.clicked.connect(self.browse)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.line, 1)
        layout.addWidget(self._browse)
        self.setAcceptDrops(True)
        self.line.setAcceptDrops(False)  # it would take the URL as text

    @property
    def path(self) -> Path | None:
        """The path as it stands in the field; None if that is empty."""
        text = self.line.text().strip().strip('"')
        return Path(text).expanduser() if text else None

    @path.setter
    def path(self, path: Path | None) -> None:
        self.line.setText("" if path is None else str(path))
        self.line.setCursorPosition(len(self.line.text()))  # the name says more than the root
        self.line.setToolTip(self.line.text())
        self._announce()

    def browse(self) -> None:
        """Ask for the path in a dialog."""
        start = str(self.path or "")
        if self._kind == "folder":
            found = QFileDialog.getExistingDirectory(self, self._caption, start)
        elif self._kind == "open":
            found, _ = QFileDialog.getOpenFileName(self, self._caption, start, self._pattern)
        else:
            found, _ = QFileDialog.getSaveFileName(
                self,
                self._caption,
                start,
                self._pattern,
                # Whoever writes the file asks, once and with the reason.
                options=QFileDialog.Option.DontConfirmOverwrite,
            )
        if found:
            self.path = Path(found)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take a file or folder of this computer."""
        data = None if event is None else event.mimeData()
        if (
            event is not None
            and data is not None
            and data.hasUrls()
            and data.urls()[0].isLocalFile()
        ):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Take its path."""
        data = None if event is None else event.mimeData()
        if event is not None and data is not None and data.hasUrls():
            self.path = Path(data.urls()[0].toLocalFile())
            event.acceptProposedAction()

    def _cleared(self, text: str) -> None:
        if not text:
            self._announce()

    def _announce(self) -> None:
        if self.path != self._last:
            self._last = self.path
            self.changed.emit(self.path)


def _place_of(layer: Layer) -> tuple[Any, ...]:
    """Return units, scale and turn of a layer, to be compared; a shift changes nothing."""
    affine = np.asarray(layer.affine.linear_matrix, float)
    parts = (layer.scale, layer.rotate, layer.shear, affine)
    return (*map(str, layer.units), *(np.asarray(part, float).tobytes() for part in parts))
