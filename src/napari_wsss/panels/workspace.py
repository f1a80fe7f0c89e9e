"""Opening all panels at once, as tabs in the order of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMainWindow

from napari_wsss.panels.support.later import soon

if TYPE_CHECKING:
    import napari

__all__ = ["PANELS", "open_panels"]

#: A dock of 350 px and the tabs beside it.
_WIDTH_PX = 376
#: Names of the panels in the manifest, in the order of the work.
PANELS = (
    "Data set",
    "Label patches",
    "Train classifier",
    "CAMs and pseudo masks",
    "Train segmenter",
    "Segment slide",
    "Correct",
)


def open_panels(viewer: napari.viewer.Viewer) -> None:
    """Dock every panel that is not open yet; the first comes to the front.

    Parameters
    ----------
    viewer
        napari passes the current one to commands of the menu.
    """
    docks = [
        viewer.window.add_plugin_dock_widget("napari-wsss", name, tabify=True)[0]
        for name in PANELS
    ]
    for dock in docks:
        dock.show()
    # napari makes docks as narrow as they can be.
    window = docks[0].parent()
    if isinstance(window, QMainWindow):
        window.resizeDocks(docks[:1], [_WIDTH_PX], Qt.Orientation.Horizontal)
    # Each comes to the front when it is first shown, as soon as Qt has laid it out.
    soon(docks[0], docks[0].raise_)
