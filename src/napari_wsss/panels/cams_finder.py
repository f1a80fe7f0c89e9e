"""Looking for class maps that are there already, beside the viewer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.work import JobRunner

__all__ = ["MapsFinder"]

#: What is asked, and what makes the job that answers.
_Question = tuple[Any, Callable[[CancelToken], Job[Any]]]


class MapsFinder(QObject):
    """Answers one question after the other; of those that wait, only the last is asked.

    Attributes
    ----------
    found, failed
        Signals: the question and its answer; the question and the error.
    """

    found = Signal(object, object)
    failed = Signal(object, object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._asked: _Question | None = None
        self._next: _Question | None = None
        self._runner = JobRunner()
        self._runner.finished.connect(self._finished)
        self._runner.failed.connect(self._failed)
        self._runner.ended.connect(self._ended)

    def ask(self, question: object, make: Callable[[CancelToken], Job[Any]]) -> None:
        """Ask, once what runs has ended; `make` returns the job that answers."""
        self._next = question, make
        if self._runner.running:
            self._runner.cancel()
        else:
            self._begin()

    def stop(self) -> None:
        """Ask no more."""
        self._asked = self._next = None
        self._runner.cancel()

    def _begin(self) -> None:
        self._asked, self._next = self._next, None
        if self._asked is not None:
            self._runner.start("Looking for class maps", self._asked[1], lane="looking for maps")

    def _finished(self, answer: object) -> None:
        if self._asked is not None and self._next is None:
            self.found.emit(self._asked[0], answer)

    def _failed(self, error: BaseException) -> None:
        if self._asked is not None and self._next is None:
            self.failed.emit(self._asked[0], error)

    def _ended(self) -> None:
        self._asked = None
        self._begin()
