"""Removing layers does not end the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("napari")

SCRIPT = """
import time
import numpy as np
import napari
from qtpy.QtWidgets import QApplication
from napari_wsss.panels.support.panel import Panel

def pump():
    for _ in range(15):
        QApplication.processEvents()
        time.sleep(0.01)

class Example(Panel):
    title, order = "Example", 1

viewer = napari.Viewer()
viewer.window.add_dock_widget(Example(viewer), name="Example")
viewer.add_image(np.zeros((200, 320, 3), np.uint8), rgb=True)
for kind in ("add_image", "add_labels"):
    for remove in ("one by one", "at once"):
        layers = [getattr(viewer, kind)(np.ones((n, n), np.uint8)) for n in (96, 64)]
        pump()
        if remove == "one by one":
            for layer in reversed(layers):
                viewer.layers.remove(layer)
        else:
            viewer.layers.selection = set(layers)
            viewer.layers.remove_selected()
        pump()
first = viewer.layers[0]
viewer.add_image(np.ones((50, 50)))
pump()
viewer.layers.remove(first)
pump()
viewer.scene.camera.zoom *= 2
pump()
viewer.layers.clear()
pump()
viewer.close()
print("alive")
"""


@pytest.mark.usefixtures("viewer")  # skips where there is no display
def test_layers_go_in_any_order():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-X", "faulthandler", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "alive" in done.stdout, done.stderr[-2000:]
