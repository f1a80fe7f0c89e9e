"""Opening all panels at once, as tabs in the order of the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import napari

__all__ = ["PANELS", "open_panels"]

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
    docks[0].raise_()
