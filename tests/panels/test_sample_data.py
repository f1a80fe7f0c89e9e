"""The sample data of the menu."""

from __future__ import annotations

import hashlib
import threading
import time

import numpy as np
import pooch
import pytest
import requests
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog, QPushButton

import napari_wsss.workflows
from napari_wsss.errors import CancelledError, SlideError
from napari_wsss.jobs import CancelToken, Progress, run_job
from napari_wsss.panels import sample_data
from napari_wsss.panels.sample_data import public_slide_layers, synthetic_slide_layers
from napari_wsss.samples import synthetic_slide


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "napari-wsss"


@pytest.fixture
def _small(monkeypatch):
    draw = napari_wsss.workflows.lesson_job
    monkeypatch.setattr(
        napari_wsss.workflows,
        "lesson_job",
        lambda folder, cancel: draw(folder, (512, 1024), cancel=cancel),
    )


@pytest.mark.usefixtures("_small")
def test_slide_and_truth_lie_on_each_other():
    slide, truth = synthetic_slide_layers()
    expected = synthetic_slide((512, 1024))

    assert slide[2] == "image"
    assert slide[1]["rgb"] is True
    assert truth[2] == "labels"
    assert truth[1]["visible"] is False
    assert slide[1]["scale"] == pytest.approx(truth[1]["scale"])
    assert slide[1]["units"] == truth[1]["units"] == ("µm", "µm")
    np.testing.assert_array_equal(np.asarray(slide[0]), expected.image)
    assert np.all(truth[0][expected.truth == 255] == 0)
    for i in range(4):
        assert np.all(truth[0][expected.truth == i] == i + 1)
        assert truth[1]["colormap"][i + 1] == expected.classes.classes[i].color


@pytest.mark.usefixtures("_small")
def test_its_patches_become_the_data_set_of_the_viewer(make_napari_viewer_proxy):
    from napari_wsss.panels.support.preferences import preferences
    from napari_wsss.panels.support.state import state_of

    viewer = make_napari_viewer_proxy()
    layers = viewer.open_sample("napari-wsss", "synthetic-slide")
    assert [layer.name for layer in layers] == ["synthetic slide", "truth"]
    patches = state_of(viewer).patch_set
    assert state_of(viewer).folder == preferences().work_folder, "results go there, not beside"
    assert patches.labels.any(0).all()
    assert len(set(patches.groups)) == 2, "some can be held out"
    assert patches.mpp == layers[0].scale[0] == 1.0


@pytest.mark.usefixtures("_small")
def test_the_viewer_stays_alive_while_it_is_drawn(make_napari_viewer_proxy, monkeypatch, qtbot):
    """And whoever does not want to wait cancels."""
    viewer = make_napari_viewer_proxy()
    draw, ticks = napari_wsss.workflows.lesson_job, []

    def slowly(folder, cancel):
        for _ in range(500):
            cancel.raise_if_cancelled()
            time.sleep(0.005)
            yield Progress("Drawing", 1, 500)
        return (yield from draw(folder, cancel=cancel))

    monkeypatch.setattr(napari_wsss.workflows, "lesson_job", slowly)

    def tick():
        ticks.append(time.monotonic())
        (dialog,) = [w for w in QApplication.topLevelWidgets() if type(w) is QProgressDialog]
        if len(ticks) == 20:
            assert dialog.isVisible()
            dialog.findChild(QPushButton).click()

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(50)
    with pytest.raises(CancelledError, match="Open it again"):
        viewer.open_sample("napari-wsss", "synthetic-slide")
    timer.stop()
    qtbot.wait(20)
    assert len(ticks) >= 20
    assert not viewer.layers
    assert not [w for w in QApplication.topLevelWidgets() if w.isVisible() and w.isModal()]


def served(monkeypatch, content):
    """Let the download bring `content`, an exception or bytes."""

    def get(self, url, output_file, pooch):
        if isinstance(content, Exception):
            raise content
        with open(output_file, "wb") as file:
            file.write(content)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", get)


def test_the_public_slide_is_downloaded_once(monkeypatch, data):
    content = (data / "slides" / "cmu-1-small-region.svs").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sample_data.PUBLIC_SHA256
    served(monkeypatch, content)
    ((levels, options, kind),) = public_slide_layers()
    assert kind == "image"
    assert levels.shape == (2967, 2220, 3)
    assert options["scale"] == pytest.approx((0.499, 0.499))
    served(monkeypatch, AssertionError("it is there already"))
    assert len(public_slide_layers()) == 1


def test_without_internet_it_says_what_to_do(monkeypatch, cache):
    served(monkeypatch, requests.ConnectionError("no route to host"))
    with pytest.raises(SlideError, match="internet") as caught:
        public_slide_layers()
    assert sample_data.PUBLIC_URL in str(caught.value)
    assert "route" not in str(caught.value)


def test_other_content_is_not_kept(monkeypatch, cache):
    served(monkeypatch, b"<html>log in to the hotel's network</html>")
    with pytest.raises(SlideError, match="checksum"):
        public_slide_layers()
    assert not [p for p in cache.rglob("*") if p.is_file()]


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, cache):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file is in the way")
    served(monkeypatch, b"")
    with pytest.raises(SlideError, match="cannot be saved"):
        public_slide_layers()


def test_the_download_can_be_cancelled(monkeypatch, cache):
    """Pooch tells a progress bar of every chunk."""

    def get(self, url, output_file, pooch):
        with open(output_file, "wb") as file:
            while True:
                file.write(b"x" * 1024)
                self.progressbar.update(1024)
                time.sleep(0.01)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", get)
    cancel = CancelToken()
    job = sample_data._download_job(cache, cancel)
    next(job)
    threading.Timer(0.3, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        run_job(job)
    assert time.monotonic() - began < 1.3
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(10)
    assert not [p for p in cache.rglob("*") if p.is_file()]
