"""Layers are removed with the canvas's OpenGL context current.

napari deletes the textures, buffers and programs of a layer as soon as it is removed, in
whatever context is current then: between two draws that is Qt's own. The names are those of
other objects there, and the next draw ends the process in the driver (Mesa) or in an access
violation. Seen with napari 0.9.2 and vispy 0.17; harmless where it is not needed.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from qtpy.QtOpenGLWidgets import QOpenGLWidget
from qtpy.QtWidgets import QMainWindow

if TYPE_CHECKING:
    import napari

__all__ = ["guard_removals"]

_GUARDED: weakref.WeakSet[QMainWindow] = weakref.WeakSet()


def guard_removals(viewer: napari.viewer.Viewer, window: QMainWindow) -> None:
    """See to it for all layers of a viewer, whoever removes them; a second call does nothing."""
    if window in _GUARDED:
        return
    _GUARDED.add(window)
    held = weakref.ref(window)

    def make_current(event: object = None) -> None:
        found = held()
        if found is not None:
            for canvas in found.findChildren(QOpenGLWidget):
                canvas.makeCurrent()

    # napari holds methods by weak references, functions by strong ones.
    viewer.layers.events.removing.connect(make_current)
