"""The terminal of one command: runs jobs, prints results, writes the summary for machines."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.text import Text

from napari_wsss.cli.progress import LinesView, LiveView, View
from napari_wsss.cli.summaries import check_summary, plain, write_summary
from napari_wsss.jobs import CancelToken, Job, run_job

__all__ = ["STDOUT", "Terminal", "interruptible"]

T = TypeVar("T")

#: The file name that stands for standard output.
STDOUT = "-"
#: Columns of tables that go to a file, where there is no window to fit.
_FILE_WIDTH = 120


class Terminal:
    """What a command talks to.

    Parameters
    ----------
    json_to
        Where the summary for machines goes: a file, ``"-"`` for standard output (which
        then carries nothing else), or None.
    quiet
        No progress; results, warnings and errors stay.

    Raises
    ------
    OutputError
        If the summary could not be written there; known before any work is done.
    """

    def __init__(self, json_to: str | None = None, *, quiet: bool = False) -> None:
        self._json_to = json_to
        self._quiet = quiet
        self._err = _console(stderr=True)
        self._out = _console(stderr=False)
        if json_to is not None and json_to != STDOUT:
            check_summary(Path(json_to))

    def run(self, job: Callable[..., Job[T]], *args: Any, **kwargs: Any) -> T:
        """Run ``job(*args, cancel=..., **kwargs)`` to its end, showing its events on stderr.

        Ctrl-C asks the job to stop at its next safe point; pressed again, it stops at once.
        """
        with interruptible() as cancel, self._view() as view:
            return run_job(job(*args, cancel=cancel, **kwargs), view.show)

    @contextmanager
    def busy(self, doing: str) -> Iterator[None]:
        """Say what is being done while it is done, for work without progress."""
        if self._quiet or not self._err.is_terminal:
            yield
            return
        with self._err.status(Text(doing)):
            yield

    def say(self, *parts: RenderableType) -> None:
        """Print results for a person, on stdout unless that belongs to the summary."""
        if self._json_to == STDOUT:
            return
        for part in parts:
            # Text is a path or a sentence, and stays on one line for whoever copies it.
            text = Text(part) if isinstance(part, str) else part
            self._out.print(text, soft_wrap=isinstance(text, Text))

    def summary(self, data: Mapping[str, Any]) -> None:
        """Write the summary for machines, if one was asked for."""
        if self._json_to == STDOUT:
            sys.stdout.write(json.dumps(plain(data), indent=2, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        elif self._json_to is not None:
            write_summary(Path(self._json_to), data)

    def _view(self) -> View:
        if self._quiet:
            return View(self._err, quiet=True)
        return LiveView(self._err) if self._err.is_terminal else LinesView(self._err)


@contextmanager
def interruptible() -> Iterator[CancelToken]:
    """Give a token that Ctrl-C sets; a second Ctrl-C raises KeyboardInterrupt."""
    cancel = CancelToken()
    if threading.current_thread() is not threading.main_thread():
        yield cancel  # only the main thread may handle signals
        return

    def stop(signum: int, frame: FrameType | None) -> None:
        if cancel.cancelled:
            raise KeyboardInterrupt
        cancel.cancel()

    previous = signal.signal(signal.SIGINT, stop)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, previous)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console
