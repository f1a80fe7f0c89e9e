"""What a panel shows of its job."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt

from napari_wsss.errors import DataError
from napari_wsss.jobs import Progress
from napari_wsss.panels.support.job_view import JobView, _Eta, left_text
from napari_wsss.panels.support.work import wait_for_jobs


@pytest.fixture
def view(qtbot):
    found = JobView("Train")
    qtbot.addWidget(found)
    found.show()
    yield found
    assert wait_for_jobs()


def slow(cancel):
    for i in range(500):
        cancel.raise_if_cancelled()
        time.sleep(0.01)
        yield Progress("Training", i + 1, 500)


def failing(cancel):
    yield Progress("Training", 1, 500)
    raise DataError("There are no patches. Load a data set.")


def click(view, qtbot):
    qtbot.mouseClick(view.button, Qt.MouseButton.LeftButton)


def test_the_button_starts_and_stops(view, qtbot):
    view.requested.connect(lambda: view.run("Train", slow, lane="test"))
    with qtbot.waitSignal(view.runner.event):
        click(view, qtbot)
    assert view.button.text() == "Stop"
    assert view.bar.isVisible()
    with qtbot.waitSignal(view.runner.ended, timeout=1000):
        click(view, qtbot)
    qtbot.wait(10)
    assert view.button.text() == "Train"
    assert view.button.isEnabled()
    assert not view.bar.isVisible()
    assert "start again to go on" in view.message.text()


def test_an_error_stays_until_the_next_start(view, qtbot):
    with qtbot.waitSignal(view.runner.ended):
        view.run("Train", failing, lane="test")
    view.set_ready(None)
    assert view.error.isVisible()
    assert "Load a data set" in view.error.text()
    with qtbot.waitSignal(view.runner.event):
        view.run("Train", slow, lane="test")
    assert not view.error.isVisible()
    view.runner.cancel()


def test_what_is_missing_disables_the_button(view):
    view.set_ready("Open a slide first.")
    assert not view.button.isEnabled()
    assert view.message.text() == "Open a slide first."
    view.set_ready(None)
    assert view.button.isEnabled()
    assert not view.message.isVisible()


def test_a_running_job_can_be_stopped_whatever_is_missing(view, qtbot):
    with qtbot.waitSignal(view.runner.event):
        view.run("Train", slow, lane="test")
    view.set_ready("The data set is gone.")
    assert view.button.isEnabled()
    with qtbot.waitSignal(view.runner.ended):
        click(view, qtbot)
    qtbot.wait(10)
    assert not view.button.isEnabled()


def test_a_bug_is_told_as_one(view):
    view.show_error(KeyError("x"))
    assert "unexpected" in view.error.text()
    assert "KeyError" in view.error.text()


def test_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    eta = _Eta()
    assert eta.left(Progress("a", 0, 100)) is None
    now[0] = 20.0  # a slow first step
    eta.left(Progress("a", 1, 100))
    for done in range(2, 51):
        now[0] += 1.0
        left = eta.left(Progress("a", done, 100))
    assert left == pytest.approx(50, rel=0.05)
    assert eta.left(Progress("b", 1, 100)) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (40, "40 s"), (720, "12 min"), (7500, "2 h 5 min")]
)
def test_time_as_text(seconds, text):
    assert left_text(seconds) == text
