"""The viewer is closed while every job of a panel runs: each stops, and nobody complains."""

from __future__ import annotations

import gc
import time

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.jobs import Log, Progress
from napari_wsss.panels.cams import CamPanel
from napari_wsss.panels.correct import CorrectPanel
from napari_wsss.panels.dataset import DatasetPanel
from napari_wsss.panels.label import LabelPanel
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.work import JobRunner, wait_for_jobs
from napari_wsss.panels.train_classifier import TrainClassifierPanel
from napari_wsss.panels.train_segmenter import TrainSegmenterPanel

PANELS = (
    DatasetPanel, LabelPanel, TrainClassifierPanel, CamPanel, TrainSegmenterPanel, SegmentPanel,
    CorrectPanel,
)  # fmt: skip


def runners():
    return {id(a): a for a in gc.get_objects() if isinstance(a, JobRunner)}


def endless(cancel):
    """Talk without pause, as a quick job does, until it is stopped."""
    done = 0
    while True:
        cancel.raise_if_cancelled()
        time.sleep(0.001)
        done += 1
        yield Progress("Working", done % 100, 100)
        yield Log("still at it", "warning")


@pytest.mark.parametrize("panel_class", PANELS, ids=lambda p: p.title)
def test_closing_the_viewer_stops_every_job(panel_class, make_napari_viewer_proxy, qtbot):
    viewer = make_napari_viewer_proxy(show=True)
    before = runners()
    panel = panel_class(viewer)
    viewer.window.add_dock_widget(panel, name=panel.title, area="right")
    # What was painted is written and kept although the window goes.
    to_the_end = (panel.write.runner, panel.drafts._keeper) if panel_class is CorrectPanel else ()
    own = [r for key, r in runners().items() if key not in before and r not in to_the_end]
    assert own
    ends = []
    for i, runner in enumerate(own):
        qtbot.waitUntil(lambda r=runner: not r.running, timeout=20_000)
        runner.ended.connect(lambda i=i: ends.append(i))
        runner.failed.connect(lambda error: pytest.fail(str(error)))
        # A lane each: all of them are under way when the window goes.
        runner.start("Endless", endless, lane=f"closing {i}")
    qtbot.wait(50)
    viewer.close()
    # Not asked to stop by this test: by the panel.
    assert wait_for_jobs(10, cancel=False), [r for r in own if r.running]
    assert sorted(ends) == list(range(len(own)))
    qtbot.wait(50)
