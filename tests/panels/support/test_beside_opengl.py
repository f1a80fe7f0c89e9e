"""torch loads in a napari that has drawn already."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="this torch comes without triton")
@pytest.mark.usefixtures("viewer")  # a display
def test_triton_loads_after_the_driver():
    code = """
        import napari, numpy as np
        import napari_wsss.panels.support.work
        from qtpy.QtWidgets import QApplication
        viewer = napari.Viewer()
        viewer.add_image(np.zeros((8, 8)))
        for _ in range(20):
            QApplication.processEvents()
        import torch, triton._C.libtriton
        print("loaded", torch.ones(2).sum().item())
        viewer.close()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert "loaded 2.0" in done.stdout, done.stderr[-2000:]
