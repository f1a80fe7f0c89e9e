"""How long a key press takes while patches of a large slide are labelled.

    python benchmarks/labelling.py --side-px 50176

A slide of that side, all tissue, is opened as a layer and its patches of 224 px are labelled by
keyboard in the panel: a class key, then the key for the next patch. What is timed is each press
until the viewer has handled it and drawn. Nobody looks at the patches, so this is how far the
software keeps up, not how fast a person labels.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import napari
import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_wsss.panels.label import LabelPanel
from napari_wsss.panels.support.work import wait_for_jobs

PATCH_PX, MPP = 224, 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side-px", type=int, default=50176)
    parser.add_argument("--presses", type=int, default=200)
    args = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    with tempfile.TemporaryDirectory() as folder:
        viewer.add_image(pyramid(args.side_px), rgb=True, multiscale=True, name="slide",
                         scale=(MPP, MPP), units=("µm", "µm"))  # fmt: skip
        panel = LabelPanel(viewer)
        panel.folder.path = Path(folder)
        viewer.window.add_dock_widget(panel, name=panel.title, area="right")
        panel.form.patch_um.setValue(PATCH_PX * MPP)
        panel.form.patch_mpp.setValue(MPP)
        until(panel.begin.button.isEnabled)
        began = time.perf_counter()
        panel.start()
        until(lambda: panel.session is not None)
        print(f"{panel.session.grid.rows * panel.session.grid.columns} patches, ready after "
              f"{time.perf_counter() - began:.1f} s")  # fmt: skip
        times: dict[str, list[float]] = {"a class": [], "the next patch": []}
        for i in range(args.presses):
            times["a class"].append(pressed(panel, (Qt.Key.Key_1, Qt.Key.Key_2)[i % 2]))
            times["the next patch"].append(pressed(panel, Qt.Key.Key_N))
        print("| key | median (ms) | p99 (ms) | longest (ms) |\n|---|---|---|---|")
        for key, values in times.items():
            p50, p99, most = np.percentile(np.array(values) * 1e3, (50, 99, 100))
            print(f"| {key} | {p50:.0f} | {p99:.0f} | {most:.0f} |")
        panel.end()
        wait_for_jobs()
        viewer.close()


def pyramid(side: int) -> list[da.Array]:
    """Return the levels of a slide that is tissue everywhere, computed where it is looked at."""
    levels = []
    while not levels or side > 1024:
        levels.append(da.map_blocks(noise, chunks=chunked(side), dtype=np.uint8))
        side //= 4
    return levels


def chunked(side: int) -> tuple[tuple[int, ...], ...]:
    """Return the chunks of an image (side, side, 3)."""
    return da.core.normalize_chunks((1024, 1024, 3), (side, side, 3))


def noise(block_info: Any = None) -> np.ndarray:
    """Return a chunk of pink noise."""
    (start, *_), *_ = block_info[None]["array-location"]
    rng = np.random.default_rng(start)
    colour = np.array([200, 120, 170], np.int16)
    shape = block_info[None]["chunk-shape"]
    return (colour + rng.integers(-40, 40, shape, np.int16)).astype(np.uint8)


def pressed(panel: LabelPanel, key: Qt.Key) -> float:
    """Press a key; returns how long the viewer was busy with it."""
    began = time.perf_counter()
    QTest.keyClick(panel, key)
    QApplication.processEvents()
    return time.perf_counter() - began


def until(done: Callable[[], Any], seconds: float = 120) -> None:
    """Serve the event loop until something is the case."""
    end = time.perf_counter() + seconds
    while not done():
        if time.perf_counter() > end:
            raise TimeoutError(f"nothing happened for {seconds:.0f} s")
        QApplication.processEvents()
        time.sleep(0.005)


if __name__ == "__main__":
    main()
