"""Threads that read ahead and never keep the program from ending."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

__all__ = ["ReaderPool"]

P = ParamSpec("P")
T = TypeVar("T")

_Work = tuple["Future[object]", Callable[[], object]]


class ReaderPool:
    """A few threads for work that may hang, such as a read from a network that is gone.

    At its end Python waits for the threads of a ``ThreadPoolExecutor``, also after its
    ``shutdown(wait=False)``; these are daemons, for which it does not.

    Parameters
    ----------
    threads
        How many.
    name
        What they are called, with their number.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}_{i}", daemon=True)
            for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Let a thread call `function`; returns where its result will be."""
        future: Future[T] = Future()
        self._work.put((future, lambda: function(*args, **kwargs)))  # type: ignore[arg-type]
        return future

    def shutdown(self) -> None:
        """Cancel what has not begun and let the threads end, without waiting for them."""
        while True:
            try:
                waiting = self._work.get_nowait()
            except queue.Empty:
                break
            if waiting is not None:
                waiting[0].cancel()
        for _ in self._threads:
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, call = work
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:  # whoever waits for the result is to get it
                future.set_exception(error)
            else:
                future.set_result(result)
            del work, future, call  # pixels are not to be kept while waiting for more work
