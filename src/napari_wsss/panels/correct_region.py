"""Choosing the region to correct: a rectangle that is drawn, or what the viewer shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QObject, Signal

from napari_wsss.panels.support.later import soon

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels, Layer
    from numpy.typing import NDArray

__all__ = ["RegionPicker", "viewed_region"]

_NAME = "region to correct"

#: (y, x, height, width) in pixels of the result.
Region = tuple[int, int, int, int]


class RegionPicker(QObject):
    """Lets the user draw one rectangle on a result.

    Parameters
    ----------
    viewer
        Gets a layer to draw on, which goes once a rectangle is drawn.

    Attributes
    ----------
    drawn
        Signal with (y, x, height, width) in pixels of the result.
    """

    drawn = Signal(object)

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._shapes: Shapes | None = None
        self._result: Labels | None = None
        self._before: tuple[Layer, ...] = ()

    @property
    def drawing(self) -> bool:
        """Whether the next drag on the canvas draws."""
        return self._shapes is not None

    def start(self, result: Labels) -> None:
        """Begin; an earlier beginning is given up."""
        self.stop()
        self._result = result
        self._shapes = shapes = Shapes(
            ndim=2,
            name=_NAME,
            scale=result.scale,
            translate=result.translate,
            units=result.units,
            axis_labels=result.axis_labels,
            face_color="transparent",
            edge_color="#0072b2",
            edge_width=max(1.0, max(result.level_shapes[0]) / 400),
        )
        self._before = tuple(self._viewer.layers.selection)
        self._viewer.add_layer(shapes)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        shapes.events.data.connect(self._edited)

    def stop(self) -> None:
        """Give up drawing, and select what was selected before."""
        shapes, self._shapes = self._shapes, None
        if shapes is None:
            return
        shapes.events.data.disconnect(self._edited)
        layers = self._viewer.layers
        if shapes in layers:
            selected = shapes in layers.selection
            layers.remove(shapes)
            if selected:
                layers.selection = {layer for layer in self._before if layer in layers}

    def _edited(self, event: Any) -> None:
        if str(getattr(event.action, "value", event.action)) in ("added", "changed"):
            # Once napari is done with the mouse button.
            soon(self, self._take)

    def _take(self) -> None:
        if self._shapes is None or self._result is None or not self._shapes.nshapes:
            return
        corners = np.array(self._shapes.data[-1], float)[:, -2:]
        region = clipped(corners, self._result.level_shapes[0])
        self.stop()
        if region is not None:
            self.drawn.emit(region)


def viewed_region(viewer: napari.viewer.Viewer, result: Labels) -> Region | None:
    """Return the part of a result that the viewer shows; None if it shows none of it."""
    # Not by `corner_pixels` of the layer: napari rounds them to whole chunks.
    half = (
        np.array(viewer.canvas.viewbox_size(viewer.layers), float) / viewer.scene.camera.zoom / 2
    )
    centre = np.array(viewer.scene.camera.center[-2:], float)
    corners = [result.world_to_data(centre + sign * half) for sign in (-1, 1)]
    return clipped(np.array(corners, float)[:, -2:], result.level_shapes[0])


def clipped(corners: NDArray[np.float64], shape: Any) -> Region | None:
    """Return the pixels between corners (n, 2) that lie in an image; None if there are none.

    Pixel i reaches from i - 0.5 to i + 0.5; it belongs to the region if its centre does.
    """
    low = np.maximum(np.ceil(corners.min(0)), 0).astype(int)
    high = np.minimum(np.floor(corners.max(0)) + 1, np.array(shape)[-2:]).astype(int)
    if (high <= low).any():
        return None
    (y, x), (height, width) = low.tolist(), (high - low).tolist()
    return y, x, height, width
