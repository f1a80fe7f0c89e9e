"""The other side of `helper`: the process beside the viewer's in which jobs compute.

It reads requests, runs each job in a thread and writes what comes of it, all as pickles. It
ends when nobody is left who could ask.
"""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from napari_wsss.errors import CancelledError, WsssError
from napari_wsss.jobs import CancelToken, Event, Log, run_job

__all__ = ["Told", "main", "serve"]

#: How much it stands back behind the viewer, as by the command ``nice``.
_NICE = 10
#: Seconds that jobs have to stop in when the viewer has ended, or has left them.
_PATIENCE_S = 10.0
#: What jobs need and takes seconds to load.
_LOADED_AHEAD = ("training", "training.classifier", "inference.slide", "cams.explain")


class Told:
    """A value that the viewer keeps up to date while a job runs; call it to read it."""

    def __init__(self) -> None:
        self.value: Any = None

    def __call__(self) -> Any:
        """Return the latest value; None before the first."""
        return self.value


class _Answers:
    """Writes answers, one at a time."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, number: int, kind: str, value: Any) -> None:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        with self._lock:
            try:
                pickle.dump((number, kind, data), self._stream, pickle.HIGHEST_PROTOCOL)
                self._stream.flush()
            except OSError:
                pass  # the viewer is gone, which ends all jobs


class _Work:
    """One job, which begins when those `before` it, which the viewer has left, have stopped."""

    def __init__(
        self, number: int, data: bytes, answers: _Answers, before: Sequence[_Work] = ()
    ) -> None:
        self.token, self.told = CancelToken(), Told()
        self._number, self._data, self._answers = number, data, answers
        self._before = before
        self.left = False
        self.thread = threading.Thread(target=self._run, name="helper job", daemon=True)

    def _run(self) -> None:
        try:
            self._wait()
            result = run_job(self._job(), self._event)
            self._answers.send(self._number, "finished", result)
        except CancelledError as error:
            self._answers.send(self._number, "failed", error)
        except Exception as error:  # told in the viewer, whatever it is
            self._answers.send(self._number, "failed", _portable(error))

    def _wait(self) -> None:
        if self._before:
            self._event(Log("Begins when the work that was stopped has ended"))
        _stopped(self._before, self.token)
        for work in self._before:
            work.left = False  # one that hangs is not waited for again
        self._before = ()

    def _job(self) -> Any:
        function, arguments, threads, follows = pickle.loads(self._data)
        if threads is not None:
            from napari_wsss.models.device import keep_threads

            keep_threads(threads)
        more: Mapping[str, Any] = {"view": self.told} if follows else {}
        return function(*arguments, **more, cancel=self.token)

    def _event(self, event: Event) -> None:
        self._answers.send(self._number, "event", event)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Run what is asked for until the requests end, then stop what still runs.

    Parameters
    ----------
    requests
        Pickles of (number of the job, kind, value): ``"run"`` with the pickled job,
        ``"tell"`` with a new value for its `Told`, ``"cancel"``, and ``"leave"`` after that
        if nobody waits for its end any more, so that later jobs do.
    answers
        Gets pickles of (number of the job, kind, pickled value): ``"event"``, and last
        ``"finished"`` with what the job returned or ``"failed"`` with its exception.
    """
    out = _Answers(answers)
    jobs: dict[int, _Work] = {}
    while True:
        try:
            number, kind, value = pickle.load(requests)
        except (EOFError, OSError):
            break
        jobs = {n: work for n, work in jobs.items() if work.thread.is_alive()}
        if kind == "run":
            left = [work for work in jobs.values() if work.left]
            jobs[number] = _Work(number, value, out, left)
            jobs[number].thread.start()
        elif number in jobs:
            if kind == "tell":
                jobs[number].told.value = value
            else:
                jobs[number].token.cancel()
                jobs[number].left |= kind == "leave"
    for work in jobs.values():
        work.token.cancel()
    _stopped(jobs.values())


def _stopped(jobs: Iterable[_Work], cancel: CancelToken | None = None) -> None:
    """Wait until jobs have stopped, but not for ever: one may hang, on a network drive say."""
    end = time.monotonic() + _PATIENCE_S
    for work in jobs:
        while work.thread.is_alive() and time.monotonic() < end:
            if cancel is not None:
                cancel.raise_if_cancelled()
            work.thread.join(0.05)


def main() -> None:
    """Serve on standard input and output."""
    answers, requests = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
    # What libraries print must not get between the answers.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C is for the viewer, which asks to stop
    if hasattr(os, "nice"):
        os.nice(_NICE)
    threading.Thread(target=_load_ahead, daemon=True).start()
    serve(requests, answers)
    sys.stderr.flush()
    # A job that hangs, on a network drive for instance, must not keep the process.
    os._exit(0)


def _load_ahead() -> None:
    """Load torch and what is built on it, before somebody waits for it."""
    for name in _LOADED_AHEAD:
        importlib.import_module(f"napari_wsss.{name}")


def _portable(error: Exception) -> Exception:
    """Return the error, or one that says the same where it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # of foreign classes anything can be expected
        return WsssError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
