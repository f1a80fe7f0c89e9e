"""Jobs in a process beside the viewer's, which answers clicks meanwhile.

In a thread they would hold the viewer up however they are written: Python's garbage collector
stops everything for a third of a second each time it goes through the million objects that come
with torch, and loading torch's libraries does the same. A process of its own also keeps what a
lack of memory ends from being the viewer.

The process is started by hand, not by `multiprocessing`, which runs the user's script again in
each process it spawns; a script that opens a viewer would open another.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from napari_wsss.environment import computing_environment
from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Event, Job
from napari_wsss.panels.support.cores import threads_for_jobs

__all__ = ["Helper", "apart", "compute_here", "start"]

T = TypeVar("T")

_MAIN = "napari_wsss.panels.support.helper_main"
#: Seconds between two looks at whether a job was cancelled and where the user looks.
_POLL_S = 0.02
#: Seconds to end in: a little more than the process gives its jobs.
_PATIENCE_S = 12.0
#: Seconds that a cancelled job is waited for if it can be left. One layer of a network, whose
#: memory the system hands out for the first time, can take three.
_STOPPING_S = 0.5


def apart(
    function: Callable[..., Job[T]],
    *arguments: Any,
    cancel: CancelToken,
    view: Callable[[], Any] | None = None,
    compute: bool = True,
    leave: Callable[[Event], bool] | None = None,
) -> Job[T]:
    """Yield the events of a job that runs in the helper process; returns what it returns.

    Where no process can be started, the job runs in this thread.

    Parameters
    ----------
    function
        Of a module; called there with the arguments and ``cancel``, and ``view`` if it is given.
    arguments
        What can be pickled.
    cancel
        Stops it.
    view
        Called here again and again; there, the function gets one that returns the latest value.
    compute
        Leave cores to the viewer.
    leave
        Given every event, it says whether a job that is cancelled before the next one may be
        left to stop by itself, if it takes longer than half a second to its next safe point.
        What is asked for after that waits for it in the process. By default none is left.

    Raises
    ------
    Exception
        What the job raises; a `WsssError` if the process ends before the job does.
    """
    helper = start()
    if helper is None:
        if compute:
            compute_here()
        more = {} if view is None else {"view": view}
        return (yield from function(*arguments, **more, cancel=cancel))
    threads = threads_for_jobs() if compute else None
    number, answers = helper.ask((function, arguments, threads, view is not None))
    told = None
    asked: float | None = None
    may_leave = False
    try:
        while True:
            if cancel.cancelled:
                if asked is None:
                    asked = time.monotonic()
                    helper.send(number, "cancel")
                elif may_leave and time.monotonic() - asked > _STOPPING_S:
                    helper.send(number, "leave")
                    cancel.raise_if_cancelled()
            now = None if view is None else view()
            if now != told:
                told = now
                helper.send(number, "tell", told)
            try:
                kind, data = answers.get(timeout=_POLL_S)
            except queue.Empty:
                continue
            if kind == "gone":
                raise WsssError(helper.farewell())
            value = pickle.loads(data)
            if kind == "finished":
                return value
            if kind == "failed":
                raise value
            may_leave = leave is not None and leave(value)
            yield value
    finally:
        helper.forget(number)


def compute_here() -> None:
    """Prepare this process for computing: all cores but those left to the viewer."""
    from napari_wsss.models.device import keep_threads

    keep_threads(threads_for_jobs())


class Helper:
    """The process, and who waits for which of its answers.

    Parameters
    ----------
    requests, answers
        Its standard input and output.
    process
        The process itself.
    """

    def __init__(
        self, requests: BinaryIO, answers: BinaryIO, process: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._requests, self._answers, self._process = requests, answers, process
        self._numbers = itertools.count()
        self._sending = threading.Lock()
        self._waiting: dict[int, queue.SimpleQueue[tuple[str, bytes]]] = {}
        self._gone = False
        threading.Thread(target=self._read, name="helper answers", daemon=True).start()

    @classmethod
    def begin(cls) -> Helper:
        """Start the process; OSError if that is not possible."""
        # It finds what this process finds, and nothing that happens to lie in its folder.
        path = os.pathsep.join(p for p in sys.path if p)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**computing_environment(), "PYTHONPATH": path},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0)
            | getattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        return cls(process.stdin, process.stdout, process)  # type: ignore[arg-type]

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return not self._gone

    def ask(self, request: object) -> tuple[int, queue.SimpleQueue[tuple[str, bytes]]]:
        """Begin a job; returns its number, and where its answers arrive."""
        data = pickle.dumps(request, pickle.HIGHEST_PROTOCOL)
        number, answers = next(self._numbers), queue.SimpleQueue[tuple[str, bytes]]()
        self._waiting[number] = answers
        if self._gone:
            answers.put(("gone", b""))
        self.send(number, "run", data)
        return number, answers

    def send(self, number: int, kind: str, value: object = None) -> None:
        """Tell something about a job; its end, not an error, says if nobody hears it."""
        with self._sending:
            try:
                pickle.dump((number, kind, value), self._requests, pickle.HIGHEST_PROTOCOL)
                self._requests.flush()
            except (OSError, ValueError):
                pass  # a closed pipe; the reader tells those who wait

    def forget(self, number: int) -> None:
        """Let go of a job; one that still runs is cancelled."""
        self._waiting.pop(number, None)
        self.send(number, "cancel")

    def farewell(self) -> str:
        """Return what to tell of a process that ended by itself."""
        code = None if self._process is None else self._process.wait(_PATIENCE_S)
        memory = code is not None and code < 0
        why = ", as happens when the computer has no memory left" if memory else ""
        return (
            f"The process that computes was ended from outside{why} (exit code {code}). What was "
            "finished is kept: close what else needs memory, then start again to go on."
        )

    def end(self) -> None:
        """Let it stop its jobs and end."""
        with contextlib.suppress(OSError):  # it is gone already
            self._requests.close()
        if self._process is not None:
            try:
                self._process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def _read(self) -> None:
        try:
            while True:
                number, kind, data = pickle.load(self._answers)
                waiting = self._waiting.get(number)
                if waiting is not None:
                    waiting.put((kind, data))
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            self._gone = True
            for waiting in tuple(self._waiting.values()):
                waiting.put(("gone", b""))


_helper: Helper | None = None
_starting = threading.Lock()


def start() -> Helper | None:
    """Return the process, started if there is none; None if none can be started."""
    global _helper
    with _starting:
        if _helper is None or not _helper.alive:
            try:
                _helper = Helper.begin()
            except OSError:  # no Python to be found, or no process allowed
                return None
            atexit.register(_helper.end)
        return _helper
