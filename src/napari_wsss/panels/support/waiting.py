"""A job that somebody waits for: the viewer stays alive behind a dialog with its progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QProgressDialog

from napari_wsss.errors import CancelledError
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.panels.support.work import JobRunner

__all__ = ["wait_for"]

T = TypeVar("T")
#: Milliseconds after which the dialog appears.
_SOON_MS = 300


def wait_for(title: str, make: Callable[[CancelToken], Job[T]]) -> T:
    """Run a job to its end and return what it returns, for callers that need it at once.

    Without an application, there is nothing to keep alive: the job runs in this thread.

    Parameters
    ----------
    title
        Of the dialog.
    make
        As of `JobRunner.start`.

    Raises
    ------
    CancelledError
        If the user stopped it.
    Exception
        What the job raises.
    """
    if QApplication.instance() is None:
        return run_job(make(CancelToken()))
    runner, loop, ends = JobRunner(), QEventLoop(), list[Any]()
    # Of no window: one that is closed meanwhile would take the dialog along.
    dialog = QProgressDialog(title, "Cancel", 0, 0)
    dialog.setWindowTitle(title)
    dialog.setWindowModality(Qt.WindowModality.ApplicationModal)
    # Its own timer waits for a value, which jobs that only say what they do never give.
    soon = QTimer(dialog)
    soon.setSingleShot(True)
    soon.timeout.connect(dialog.show)
    soon.start(_SOON_MS)
    dialog.setAutoClose(False)
    dialog.setAutoReset(False)
    dialog.canceled.connect(runner.cancel)

    def show(event: Event) -> None:
        if isinstance(event, Progress):
            dialog.setRange(0, event.total)
            dialog.setValue(event.done)
        elif isinstance(event, Log):
            dialog.setLabelText(event.message)

    runner.event.connect(show)
    runner.finished.connect(lambda value: ends.append((value, None)))
    runner.failed.connect(lambda error: ends.append((None, error)))
    stopped = CancelledError(f"{title} was cancelled. Open it again to go on.")
    runner.cancelled.connect(lambda: ends.append((None, stopped)))
    runner.ended.connect(loop.quit)
    runner.start(title, make, lane=title)
    loop.exec()
    dialog.close()
    dialog.deleteLater()
    value, error = ends[0]
    if error is not None:
        raise error
    return value
