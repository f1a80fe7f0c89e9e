"""Viewers for the tests of panels; skipped where there is neither Qt nor a display."""

from __future__ import annotations

import gc
import os
import sys
import threading

import pytest

# Software rendering, also on machines whose driver needs a real display.
os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")


@pytest.fixture(autouse=True)
def _widgets_end_here():
    """Let widgets of earlier tests end in this thread.

    Those that hang in reference cycles are freed by whichever thread Python's garbage
    collector happens to run in; Qt ends the process if that is a job's.
    """
    gc.collect()


@pytest.fixture(autouse=True)
def _threads_as_jobs_have():
    """Let what a test computes to compare with have as many threads as the panels' jobs.

    The number can change the last bit of a sum, and with it a byte of a class map.
    """
    import torch

    from napari_wsss.models.device import keep_threads
    from napari_wsss.panels.support.cores import threads_for_jobs

    before = torch.get_num_threads()
    keep_threads(threads_for_jobs())
    yield
    keep_threads(before)


@pytest.fixture(scope="session")
def small_segmenter():
    """Return a function that makes the same small segmenter of three classes, for given µm/px."""
    import torch

    from napari_wsss.classes import ClassTable
    from napari_wsss.models import ModelInfo, Segmenter
    from napari_wsss.settings import EncoderSettings

    def make(mpp):
        torch.manual_seed(0)
        info = ModelInfo(
            kind="segmenter",
            encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
            architecture={"decoder_channels": 16, "encoder_stages": 3},
            classes=ClassTable.from_names(["gland", "stroma", "fat"]).to_dict(),
            patch_size_px=64,
            mpp=mpp,
        )
        return Segmenter(info).eval()

    return make


@pytest.fixture(scope="session")
def helper_in_a_thread():
    """The other side of `helper` in a thread of this process, with all that is sent pickled."""
    from napari_wsss.panels.support.helper import Helper
    from napari_wsss.panels.support.helper_main import serve

    (asked, asks), (answered, answers) = os.pipe(), os.pipe()
    there = os.fdopen(asked, "rb"), os.fdopen(answers, "wb")
    thread = threading.Thread(target=serve, args=there)
    thread.start()
    helper = Helper(os.fdopen(asks, "wb"), os.fdopen(answered, "rb"))
    yield helper
    helper.end()
    thread.join()


@pytest.fixture(autouse=True)
def _helper_here(helper_in_a_thread, monkeypatch):
    """Let jobs for the helper process run here, where tests can reach into them."""
    from napari_wsss.panels.support import helper

    monkeypatch.setattr(helper, "start", lambda: helper_in_a_thread)


@pytest.fixture
def helper_process(_helper_here, monkeypatch):
    """Let jobs run in the helper process, as they do for a user."""
    from napari_wsss.panels.support import helper

    monkeypatch.undo()
    yield
    if helper._helper is not None:
        helper._helper.end()


@pytest.fixture
def viewer(make_napari_viewer_proxy):
    """A viewer as a plugin gets it; no thread of ours may outlive the test."""
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        pytest.skip("no display: install Xvfb, which pytest-xvfb starts")
    from napari_wsss.panels.support.work import wait_for_jobs

    # Shown, since panels do things when they come to the front.
    yield make_napari_viewer_proxy(show=True)
    assert wait_for_jobs(20)
    left = [t.name for t in threading.enumerate() if t.name.startswith("napari-wsss")]
    assert not left
    # What was left in the helper, which is a thread of the tests here.
    for thread in threading.enumerate():
        if thread.name == "helper job":
            thread.join(20)


@pytest.fixture
def add_panel(viewer, qtbot):
    """Return a function that docks a panel of a class and returns it."""

    def add(panel_class):
        panel = panel_class(viewer)
        viewer.window.add_dock_widget(panel, name=panel.title, area="right")
        qtbot.wait(1)
        return panel

    return add
