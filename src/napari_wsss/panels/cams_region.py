"""Drawing a rectangle on a slide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image, Layer
from napari.utils import Colormap
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

if TYPE_CHECKING:
    import napari

__all__ = ["RegionTool"]

#: Name and colour of the layer that frames the region, and its side in pixels.
_NAME, _COLOR, _SIDE = "region for class maps", "#0072b2", 101


class RegionTool(QWidget):
    """Lets the user drag a rectangle, and frames it.

    Not a layer of shapes: with some drivers, napari crashes once one has been hidden or
    removed beside images. The frame is a small image.

    Parameters
    ----------
    viewer
        Where to draw.

    Attributes
    ----------
    about_to_draw, drawn
        Signals: the button was pressed; a rectangle was finished.
    """

    about_to_draw = Signal()
    drawn = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._frame: Image | None = None
        self._before: tuple[Layer, ...] = ()  # what was selected before the frame came
        self._away = False
        self._world: NDArray[np.float64] | None = None
        self._slide: Layer | None = None
        self.button = QPushButton("Draw a region")
        self.button.setCheckable(True)
        self.button.setToolTip(
            "<p>Press the mouse on the slide and drag a rectangle, up to 2048 x 2048 px at the "
            "classifier's µm/px.</p>"
        )
        self.button.clicked.connect(self._pressed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)

    @property
    def drawing(self) -> bool:
        """Whether the next drag on the canvas draws."""
        return self._slide is not None

    def draw(self, slide: Layer) -> None:
        """Draw with the next drag on the canvas, instead of moving the picture."""
        self.stop()
        self._slide = slide
        self.button.setChecked(True)
        self.button.setText("Drag a rectangle on the slide …")
        self._viewer.dims.ndisplay = 2  # in three dimensions a drag lies in no plane
        self._viewer.scene.camera.mouse_pan = False
        self._viewer.mouse_drag_callbacks.append(self._drag)

    def stop(self) -> None:
        """Stop drawing; what was drawn stays."""
        if self._slide is None:
            return
        self._slide = None
        self.button.setChecked(False)
        self.button.setText("Draw a region")
        active = self._viewer.layers.selection.active
        # As napari has it: a layer that is painted on keeps the mouse for itself.
        self._viewer.scene.camera.mouse_pan = active is None or active.mouse_pan
        self._viewer.mouse_drag_callbacks.remove(self._drag)

    def leave(self) -> None:
        """Stop drawing and take the frame out of the viewer, until `come_back`."""
        self.stop()
        layers = self._viewer.layers
        self._away = self._frame is not None and self._frame in layers
        if self._frame is None or not self._away:
            return
        selected = layers.selection == {self._frame}
        layers.remove(self._frame)
        if selected:  # by its coming, not by the user
            layers.selection = {layer for layer in self._before if layer in layers}

    def come_back(self) -> None:
        """Show the frame again that `leave` took away; what is selected stays selected."""
        if self._away and self._frame is not None:
            selected = set(self._viewer.layers.selection)
            self._viewer.add_layer(self._frame)
            self._viewer.layers.selection = selected
        self._away = False

    def corners(self, slide: Layer) -> NDArray[np.float64] | None:
        """Return (2, 2): upper left and lower right corner in pixels of the slide's level 0.

        None if there is no rectangle, or its frame was deleted.
        """
        if self._world is None or not (self._away or self._frame in self._viewer.layers):
            return None
        points = np.array([slide.world_to_data(p)[-2:] for p in self._world], float)
        return np.stack([points.min(0), points.max(0)])

    def _pressed(self) -> None:
        if self.drawing:
            self.stop()
        else:
            self.button.setChecked(False)
            self.about_to_draw.emit()

    def _drag(self, _: object, event: Any) -> Iterator[None]:
        """Follow one drag of the mouse; napari goes on with it at every move."""
        slide, start = self._slide, event.position[-2:]
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            self._set(slide, start, event.position[-2:])
            yield
        if moved:  # a click alone is no rectangle
            self.stop()
            self.drawn.emit()

    def _set(self, slide: Layer | None, start: Sequence[float], end: Sequence[float]) -> None:
        if slide is None:
            return
        low, high = np.minimum(start, end), np.maximum(start, end)
        self._world = np.stack([low, high])
        pixel = np.maximum(high - low, 1e-6) / _SIDE
        if self._frame is None or self._frame not in self._viewer.layers:
            self._frame = _frame(slide)
            self._before = tuple(self._viewer.layers.selection)
            self._viewer.add_layer(self._frame)
            # The frame is selected now, and napari moves the picture again.
            self._viewer.scene.camera.mouse_pan = False
        self._frame.scale = pixel
        self._frame.translate = low + pixel / 2


def _frame(slide: Layer) -> Image:
    pixels = np.ones((_SIDE, _SIDE), np.float32)
    pixels[1:-1, 1:-1] = 0
    return Image(
        pixels,
        name=_NAME,
        colormap=Colormap(["#00000000", _COLOR], name="frame"),
        contrast_limits=(0, 1),
        blending="translucent_no_depth",
        units=slide.units,
        axis_labels=slide.axis_labels,
    )
