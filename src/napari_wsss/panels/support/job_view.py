"""What a panel shows of its job: a button, progress with the time left, a lasting error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress
from napari_wsss.panels.support.later import soon
from napari_wsss.panels.support.work import JobRunner

__all__ = ["JobView", "left_text"]


class JobView(QWidget):
    """Starts and stops a job and shows how it goes.

    Parameters
    ----------
    start, stop
        What the button says while nothing runs, and while the job runs.

    Attributes
    ----------
    requested
        Signal: the button was pressed to start; answer it by `run`.
    runner
        The job's signals.
    """

    requested = Signal()

    def __init__(self, start: str, *, stop: str = "Stop", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._start, self._stop = start, stop
        self._missing: str | None = None
        self._eta = _Eta()
        self.runner = JobRunner()
        self.button = QPushButton(start)
        self.button.clicked.connect(self._pressed)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setVisible(False)
        self.message = _text_label()
        self.error = _text_label()
        self.error.setObjectName("error")
        self.error.setStyleSheet("QLabel#error { border-left: 3px solid #d55e00; padding: 4px; }")
        row = QHBoxLayout()
        row.addWidget(self.button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(row)
        for widget in (self.bar, self.message, self.error):
            layout.addWidget(widget)
        self.runner.started.connect(self._started)
        self.runner.event.connect(self._event)
        self.runner.failed.connect(self.show_error)
        self.runner.cancelled.connect(self._cancelled)
        self.runner.ended.connect(self._ended)

    def run(
        self, name: str, make: Callable[[CancelToken], Job[Any]], *, lane: str = "compute"
    ) -> None:
        """Start a job; see `JobRunner.start`."""
        self.clear()
        self.runner.start(name, make, lane=lane)

    def set_start(self, text: str) -> None:
        """Change what the button says while nothing runs."""
        self._start = text
        self._update()

    def set_ready(self, missing: str | None) -> None:
        """Enable the button, or disable it and say what is missing."""
        self._missing = missing
        if not self.runner.running:
            self.say(missing or "")
        self._update()

    def say(self, text: str) -> None:
        """Show a line below the button."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def show_error(self, error: BaseException) -> None:
        """Show an error until the next start; its text can be selected and copied."""
        if isinstance(error, WsssError):
            text = str(error)
        else:
            text = (
                f"Something unexpected went wrong: {type(error).__name__}: {error}\nWhat was "
                "finished is kept. If it happens again, please report it with this text."
            )
        self.error.setText(text)
        self.error.setVisible(True)

    def clear(self) -> None:
        """Remove message and error."""
        self.say("")
        self.error.clear()
        self.error.setVisible(False)

    # -- following the job ------------------------------------------------------------

    def _pressed(self) -> None:
        if self.runner.running:
            self.say("Stopping …")
            self.button.setEnabled(False)
            self.runner.cancel()
        else:
            self.requested.emit()

    def _started(self) -> None:
        self._eta = _Eta()
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self.bar.setVisible(True)
        self._update()

    def _event(self, event: Event) -> None:
        if isinstance(event, Progress):
            self.bar.setRange(0, event.total)
            self.bar.setValue(event.done)
            left = self._eta.left(event)
            rest = "" if left is None else f", {left_text(left)} left"
            self.bar.setFormat(f"{event.stage}: {event.done} of {event.total}{rest}")
        elif isinstance(event, Log):
            self.say(event.message)

    def _cancelled(self) -> None:
        self.say("Stopped. What was finished is kept; start again to go on.")

    def _ended(self) -> None:
        self.bar.setVisible(False)
        self._update()
        # Panels set what is missing anew when a job changed the state; let them go first.
        soon(self, self._update)

    def _update(self) -> None:
        running = self.runner.running
        self.button.setText(self._stop if running else self._start)
        self.button.setEnabled(running or self._missing is None)


class _Eta:
    """The time that a stage still takes, from the pace of its last part."""

    def __init__(self) -> None:
        self._stage = ""
        self._seen: list[tuple[float, int]] = []

    def left(self, event: Progress) -> float | None:
        """Return seconds; None as long as nothing can be said."""
        now = time.monotonic()
        if event.stage != self._stage:
            self._stage, self._seen = event.stage, []
        self._seen.append((now, event.done))
        # Half of what was done so far: the first steps are slow, and the pace may change.
        half = (self._seen[0][1] + event.done) / 2
        while len(self._seen) > 2 and self._seen[1][1] <= half:
            self._seen.pop(0)
        then, done = self._seen[0]
        if event.done <= done or now - then < 1.0:
            return None
        return (event.total - event.done) * (now - then) / (event.done - done)


def left_text(seconds: float) -> str:
    """Return "40 s", "12 min" or "2 h 5 min"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _text_label() -> QLabel:
    label = QLabel()
    # Names of classes and files may look like tags, which would eat them and the line breaks.
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(False)
    return label
