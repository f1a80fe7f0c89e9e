"""How long the viewer keeps a user waiting while it segments a slide and while it trains.

    python benchmarks/responsiveness.py --slide SLIDE.svs [--model MODEL.safetensors]

A timer of the event loop is due every 10 ms; how late it comes is what a click at that moment
would have waited. The view is moved four times a second, as by somebody who looks around, so
drawing is part of it; the first row says what drawing alone costs on the machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from PIL import Image
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

from napari_wsss.classes import ClassTable
from napari_wsss.jobs import CancelToken, EpochEnd, Job
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.training_look import train_job
from napari_wsss.panels.support.work import JobRunner, wait_for_jobs
from napari_wsss.panels.train_classifier import ClassifierTraining
from napari_wsss.patches import load_patches
from napari_wsss.settings import ClassifierSettings

TICK_MS, PAN_MS = 10, 250
HEADER = "| while | p50 (ms) | p99 (ms) | longest (ms) | seconds late by over 100 ms | of |"
LINE = "|---|---|---|---|---|---|"


class Heartbeat:
    """Records how late a timer comes, and moves the view."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._late: list[float] = []
        self._due = self._began = 0.0
        self._beat, self._pan = QTimer(), QTimer()
        self._beat.setTimerType(Qt.TimerType.PreciseTimer)
        self._beat.timeout.connect(self._beaten)
        self._pan.timeout.connect(self._panned)

    def start(self) -> None:
        self._late.clear()
        self._began = time.perf_counter()
        self._due = self._began + TICK_MS / 1e3
        self._beat.start(TICK_MS)
        self._pan.start(PAN_MS)

    def row(self, what: str) -> str:
        """Stop, and return what was measured as a row of the table."""
        self._beat.stop()
        self._pan.stop()
        late = np.array(self._late) * 1e3
        p50, p99 = np.percentile(late, (50, 99))
        seconds = time.perf_counter() - self._began
        slow = (late > 100).sum() * TICK_MS / 1e3
        times = f"{p50:.1f} | {p99:.0f} | {late.max():.0f} | {slow:.1f} | {seconds:.0f}"
        return f"| {what} | {times} |"

    def _beaten(self) -> None:
        now = time.perf_counter()
        # Every tick that a stall swallowed waited, the first longest.
        while self._due <= now:
            self._late.append(now - self._due)
            self._due += TICK_MS / 1e3

    def _panned(self) -> None:
        # Older napari has the camera at the viewer itself.
        camera = getattr(self._viewer, "scene", self._viewer).camera
        z, y, x = camera.center
        shift = 20 / camera.zoom * np.sin(time.perf_counter())
        camera.center = (z, y + shift, x + shift)


def until(done: Callable[[], Any], seconds: float = 600) -> float:
    """Serve the event loop until something is the case; returns how long it took."""
    began = time.perf_counter()
    while not done():
        if time.perf_counter() - began > seconds:
            raise TimeoutError(f"nothing happened for {seconds:.0f} s")
        # Waits for the next event, as the event loop of the application does.
        QApplication.processEvents()
        time.sleep(0.0005)
    return time.perf_counter() - began


def rest(seconds: float) -> None:
    end = time.perf_counter() + seconds
    until(lambda: time.perf_counter() > end)


def default_model(path: Path) -> Path:
    """Write a segmenter of the default architecture; how fast it is does not ask for weights."""
    from napari_wsss.models import ModelInfo, Segmenter, save_model
    from napari_wsss.settings import EncoderSettings, SegmenterSettings

    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(upscale=1.0),
        architecture=SegmenterSettings().architecture,
        classes=ClassTable.from_names(["tumour", "stroma", "other"]).to_dict(),
        mpp=0.5,
        patch_size_px=224,
    )
    return save_model(Segmenter(info).eval(), path)


def training_of(folder: Path) -> Callable[[CancelToken], Job[Any]]:
    """Return what makes a small training: 64 patches of 112 px, the default encoder."""
    rng = np.random.default_rng(0)
    rows = ["path,a,b"]
    for i in range(64):
        pixels = rng.integers(0, 255, (112, 112, 3), np.uint8)
        pixels[..., i % 2] //= 2
        Image.fromarray(pixels).save(folder / f"p{i}.png")
        rows.append(f"p{i}.png,{1 - i % 2},{i % 2}")
    (folder / "labels.csv").write_text("\n".join(rows))

    def make(cancel: CancelToken) -> Job[Any]:
        settings = ClassifierSettings(epochs=50, steps_per_epoch=4)
        patches, out = load_patches(folder), folder / "m.safetensors"
        return train_job(ClassifierTraining(), patches, out, settings, "auto", False, cancel)

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--train-seconds", type=float, default=20)
    arguments = parser.parse_args()
    viewer = napari.Viewer()
    viewer.window.resize(1500, 950)
    rows, numbers = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (layer,) = viewer.open(arguments.slide, plugin="napari-wsss")
        panel = SegmentPanel(viewer)
        viewer.window.add_dock_widget(panel, name=panel.title, area="right")
        heart = Heartbeat(viewer)
        model = arguments.model
        if model is None:
            command = f"import responsiveness as r; r.default_model(r.Path({str(folder)!r}) / 'm')"
            # Elsewhere, so that torch is loaded in this process when the panel loads it.
            subprocess.run([sys.executable, "-c", command], cwd=Path(__file__).parent, check=True)
            model = folder / "m"
        rest(2)
        heart.start()
        rest(5)
        rows.append(heart.row("nothing runs"))

        heart.start()
        panel.folder.path = folder / "results"
        panel.model.path = model
        until(panel.job.button.isEnabled)
        rest(5)  # as somebody does who looks where to begin
        rows.append(heart.row("model and slide are looked at, the network is prepared"))

        heart.start()
        panel.job.button.click()
        first = until(lambda: _shown(panel))
        numbers.append(f"first block on screen after {first:.1f} s")
        rest(2)
        panel.job.button.click()
        numbers.append(f"stopped after {until(lambda: not panel.job.runner.running):.2f} s")
        until(panel.job.button.isEnabled)
        panel.job.button.click()
        until(lambda: not panel.job.runner.running)
        rows.append(heart.row(f"{layer.name} is segmented ({panel.form.settings().precision})"))

        runner, epochs = JobRunner(), []
        runner.event.connect(lambda e: epochs.append(e) if isinstance(e, EpochEnd) else None)
        runner.failed.connect(print)
        training = training_of(folder)  # which writes its patches
        heart.start()
        runner.start("Train", training)
        rest(arguments.train_seconds)
        began = time.perf_counter()
        runner.cancel()
        until(lambda: not runner.running)
        numbers.append(f"training stopped after {time.perf_counter() - began:.2f} s")
        rows.append(heart.row(f"a classifier is trained ({len(epochs)} epochs)"))
        wait_for_jobs()
        viewer.close()
    print(HEADER, LINE, *rows, "", "; ".join(numbers), sep="\n")


def _shown(panel: SegmentPanel) -> bool:
    live = panel._result
    return live is not None and bool((np.asarray(live.labels.data[-1]) != 255).any())


if __name__ == "__main__":
    main()
