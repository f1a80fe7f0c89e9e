"""Jobs beside the viewer: every end is told, none is lost."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.errors import CancelledError, DataError, WsssError
from napari_wsss.jobs import Log, Progress
from napari_wsss.panels.support.work import JobRunner, wait_for_jobs


@pytest.fixture
def runner(qapp):
    found = JobRunner()
    found.said = []
    for name in ("started", "event", "finished", "failed", "cancelled", "ended"):
        getattr(found, name).connect(lambda *a, n=name: found.said.append((n, *a)))
    yield found
    assert wait_for_jobs()


def counting(n, pause=0.0):
    def make(cancel):
        for i in range(1, n + 1):
            cancel.raise_if_cancelled()
            time.sleep(pause)
            yield Progress("Counting", i, n)
        return threading.current_thread().name

    return make


def raising(error):
    def make(cancel):
        yield Log("about to fail")
        raise error

    return make


def names(runner):
    return [name for name, *_ in runner.said]


def test_a_job_runs_in_a_thread_and_returns_its_value(runner, qtbot):
    with qtbot.waitSignal(runner.ended):
        runner.start("Count", counting(3), lane="test")
    assert runner.said[-2] == ("finished", "napari-wsss Count")
    assert names(runner)[0] == "started"
    assert names(runner)[-1] == "ended"
    assert not runner.running


def test_progress_is_throttled_but_its_end_arrives(runner, qtbot):
    with qtbot.waitSignal(runner.ended):
        runner.start("Count", counting(2000), lane="test")
    done = [e.done for name, *rest in runner.said if name == "event" for e in rest]
    assert done[-1] == 2000
    assert len(done) < 100


@pytest.mark.parametrize(
    "error",
    [
        DataError("no patches"),
        RuntimeError("CUDA out of memory"),
        RuntimeError("wrapped C/C++ object has been deleted"),
        KeyError("a bug"),
        MemoryError(),
        StopIteration(3),
    ],
    ids=repr,
)
def test_no_error_vanishes(runner, qtbot, error):
    with qtbot.waitSignal(runner.ended):
        runner.start("Fail", raising(error), lane="test")
    assert names(runner)[-2] == "failed"
    found = runner.said[-2][1]
    if isinstance(error, RuntimeError):
        assert isinstance(found, WsssError)
        assert str(error) in str(found)
    elif not isinstance(error, StopIteration):  # which Python itself turns into a RuntimeError
        assert found is error


def test_an_error_before_the_job_begins_is_told_too(runner, qtbot):
    def make(cancel):
        raise DataError("no such file")

    with qtbot.waitSignal(runner.failed) as failed:
        runner.start("Fail", make, lane="test")
    assert "no such file" in str(failed.args[0])


def test_cancelling_closes_the_job(runner, qtbot):
    closed = []

    def make(cancel):
        try:
            yield from counting(10_000, 0.001)(cancel)
        finally:
            closed.append(True)

    with qtbot.waitSignal(runner.event):
        runner.start("Count", make, lane="test")
    began = time.monotonic()
    with qtbot.waitSignal(runner.cancelled):
        runner.cancel()
    assert time.monotonic() - began < 1
    assert closed == [True]
    assert "finished" not in names(runner)


def test_jobs_of_one_lane_take_turns_and_say_so(runner, qtbot):
    other = JobRunner()
    overlap = []

    def alone(cancel):
        overlap.append("in")
        yield from counting(20, 0.01)(cancel)
        overlap.append("out")

    runner.start("First", alone, lane="test")
    other_said = []
    other.event.connect(other_said.append)
    with qtbot.waitSignals([runner.ended, other.ended]):
        other.start("Second", alone, lane="test")
    assert overlap == ["in", "out"] * 2
    assert any(isinstance(e, Log) and "under way" in e.message for e in other_said)


def test_a_job_that_waits_can_be_cancelled(runner, qtbot):
    other = JobRunner()
    runner.start("First", counting(1000, 0.005), lane="test")
    other.start("Second", counting(1), lane="test")
    with qtbot.waitSignal(other.cancelled):
        other.cancel()
    assert runner.running


def test_one_runner_has_one_job(runner):
    runner.start("Count", counting(1000, 0.005), lane="test")
    with pytest.raises(RuntimeError, match="already"):
        runner.start("Count", counting(1))


def test_a_job_outlives_its_runners_owner(qapp, qtbot):
    """Nobody holds the runner but its thread; its signals must still be there."""
    ends = []
    runner = JobRunner()
    runner.ended.connect(lambda: ends.append(1))
    runner.start("Count", counting(20, 0.005), lane="test")
    del runner
    assert wait_for_jobs(5, cancel=False)
    assert ends == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to processes elsewhere")
def test_the_viewer_goes_first(runner, qtbot):
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    seen = []

    def make(cancel):
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        yield Log("")

    with qtbot.waitSignal(runner.ended):
        runner.start("Look", make, lane="test")
    assert seen[0] > before
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_cancelled_is_no_failure(runner, qtbot):
    with qtbot.waitSignal(runner.ended):
        runner.start("Stop", raising(CancelledError("asked to")), lane="test")
    assert names(runner)[-2] == "cancelled"


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


def test_the_garbage_collector_leaves_out_what_was_there_while_jobs_run(runner, qtbot, thawed):
    gc.unfreeze()
    other = JobRunner()
    runner.start("Count", counting(20, 0.02), lane="one")
    other.start("Count", counting(1), lane="two")
    qtbot.waitUntil(lambda: not other.running)
    assert runner.running
    assert gc.get_freeze_count() > 10_000
    qtbot.waitUntil(lambda: not runner.running)
    assert gc.get_freeze_count() == 0


def test_what_the_application_froze_stays_so(runner, qtbot, thawed):
    gc.freeze()
    with qtbot.waitSignal(runner.ended):
        runner.start("Count", counting(1), lane="test")
    assert gc.get_freeze_count() > 10_000
