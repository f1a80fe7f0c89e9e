"""Jobs in a thread beside the viewer: none is lost, none outlives it, one at a time computes.

One that the viewer left in the helper process may still be in its last layer (`helper.apart`).

Not the workers of superqt, which napari uses: they lose RuntimeErrors of generators without a
word (lack of GPU memory is one), cannot close what they stop, and replace the warning handler
of the whole process from within a thread.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QCoreApplication, QObject, Signal

from napari_wsss.errors import CancelledError
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.panels.support.beside_opengl import let_torch_load

__all__ = ["JobRunner", "wait_for_jobs"]

let_torch_load()

#: Seconds between two events of progress that reach the screen.
_PROGRESS_S = 0.1
#: How much jobs stand back behind the viewer, as by the command ``nice``.
_NICE = 10
#: Jobs that share a resource, such as the processor or the GPU, take turns.
_LANES: dict[str, threading.Lock] = {}
_RUNNING: set[JobRunner] = set()


class _Garbage:
    """Keeps Python's garbage collector from stopping the viewer while jobs run.

    A full collection goes through all objects of the process, napari's million too: a fifth of a
    second in which no click is answered, and the layers that jobs add bring it about. What was
    there before is left out meanwhile (``gc.freeze``); what comes up is collected as ever.
    """

    def __init__(self) -> None:
        self._frozen = False

    def set_aside(self) -> None:
        """Leave out what is there now, unless something is left out already."""
        if not self._frozen and gc.get_freeze_count() == 0:
            gc.freeze()
            self._frozen = True

    def take_back(self) -> None:
        """Let all of it be collected again."""
        if self._frozen:
            gc.unfreeze()
            self._frozen = False


_GARBAGE = _Garbage()


class JobRunner(QObject):
    """Runs one job at a time in a thread and tells of it by signals of this thread.

    It has no parent on purpose: a panel may be deleted while its job runs, and the thread
    must then still find the object whose signals it emits.

    Attributes
    ----------
    started, event, finished, failed, cancelled, ended
        Signals: the job began; an `Event` of it; its return value; the exception it raised;
        it was cancelled; and, last in any case, it is over.
    """

    started = Signal()
    event = Signal(object)
    finished = Signal(object)
    failed = Signal(object)
    cancelled = Signal()
    ended = Signal()
    _over = Signal(str, object)

    def __init__(self) -> None:
        super().__init__()
        self._token: CancelToken | None = None
        self._thread: threading.Thread | None = None
        self._over.connect(self._conclude)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.cancel)

    @property
    def running(self) -> bool:
        """Whether a job was started and has not ended."""
        return self._token is not None

    def start(
        self, name: str, make: Callable[[CancelToken], Job[Any]], *, lane: str = "compute"
    ) -> None:
        """Start a job.

        Parameters
        ----------
        name
            What others that wait for it are told, such as "Train classifier".
        make
            Called in the thread with the token that cancels the job; opens what the job needs
            and returns it.
        lane
            Jobs of one lane take turns, over all viewers.

        Raises
        ------
        RuntimeError
            If one is running already.
        """
        if self.running:
            raise RuntimeError("This runner has a job already.")
        self._token = token = CancelToken()
        _RUNNING.add(self)
        _GARBAGE.set_aside()
        self._thread = threading.Thread(
            target=self._run, args=(name, make, lane, token), name=f"napari-wsss {name}"
        )
        self.started.emit()
        self._thread.start()

    def cancel(self) -> None:
        """Ask the job to stop at its next safe point; nothing happens if none runs."""
        if self._token is not None:
            self._token.cancel()

    # -- in the thread --------------------------------------------------------------

    def _run(
        self, name: str, make: Callable[[CancelToken], Job[Any]], lane: str, token: CancelToken
    ) -> None:
        _step_back()
        try:
            lock = self._turn(name, lane, token)
            try:
                outcome = "finished", run_job(make(token), _Throttled(self.event.emit))
            finally:
                lock.release()
        except CancelledError as error:
            outcome = "cancelled", error
        except Exception as error:  # shown in the panel, whatever it is
            outcome = "failed", error
        self._over.emit(*outcome)

    def _turn(self, name: str, lane: str, token: CancelToken) -> threading.Lock:
        """Wait until this job may run; returns the lane's lock, held."""
        lock = _LANES.setdefault(lane, threading.Lock())
        if not lock.acquire(blocking=False):
            self.event.emit(Log(f"{name} begins when the work that is under way has ended"))
            while not lock.acquire(timeout=0.1):
                token.raise_if_cancelled()
        return lock

    # -- in the thread of the viewer --------------------------------------------------

    def _conclude(self, outcome: str, value: object) -> None:
        if self._thread is not None:
            self._thread.join()
        self._token = self._thread = None
        _RUNNING.discard(self)
        if not _RUNNING:
            _GARBAGE.take_back()
        if outcome == "finished":
            self.finished.emit(value)
        elif outcome == "cancelled":
            self.cancelled.emit()
        else:
            self.failed.emit(value)
        self.ended.emit()


class _Throttled:
    """Passes events on; of the progress of one stage only what an eye can follow."""

    def __init__(self, emit: Callable[[Event], object]) -> None:
        self._emit = emit
        self._last = (-1.0, "")

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            now = time.monotonic()
            then, stage = self._last
            if event.stage == stage and event.done < event.total and now - then < _PROGRESS_S:
                return
            self._last = (now, event.stage)
        self._emit(event)


def _step_back() -> None:
    """Let the viewer's thread go first where both want the processor."""
    if sys.platform == "linux":
        # There, each thread has a priority of its own, which those it starts inherit.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def wait_for_jobs(seconds: float = 10.0, *, cancel: bool = True) -> bool:
    """Wait until no job runs any more, serving the event loop; returns whether that came.

    Parameters
    ----------
    seconds
        How long at most.
    cancel
        Ask the jobs to stop first.
    """
    for runner in tuple(_RUNNING):
        if cancel:
            runner.cancel()
    end = time.monotonic() + seconds
    while _RUNNING and time.monotonic() < end:
        QCoreApplication.processEvents()
        time.sleep(0.01)
    return not _RUNNING
