"""Showing the events of a job: a live bar on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from napari_wsss import jobs
from napari_wsss.jobs import EpochEnd, Event, Log

__all__ = ["LinesView", "LiveView", "View", "epoch_text"]

#: Metrics worth a place in the line of an epoch, with the name they are shown by.
_SHOWN = {
    "map": "mAP",
    "exact_match": "exact match",
    "target_miou": "mIoU with targets",
    "target_accuracy": "accuracy",
}
#: Seconds between two plain lines of progress.
_LINE_EVERY = 10.0


def epoch_text(event: EpochEnd) -> str:
    """Return one line on an epoch: loss, main metrics, seconds, and whether it is the best."""
    width = len(str(event.epochs))
    parts = [f"Epoch {event.epoch:>{width}}/{event.epochs}"]
    if "loss" in event.metrics:
        parts.append(f"loss {event.metrics['loss']:.4f}")
    parts += [f"{name} {event.metrics[k]:.3f}" for k, name in _SHOWN.items() if k in event.metrics]
    if "seconds" in event.metrics:
        parts.append(f"{event.metrics['seconds']:.1f} s")
    return "  ".join(parts) + ("  * kept" if event.best else "")


class View:
    """Prints what a job says; knows no progress.

    Parameters
    ----------
    console
        Where to print (stderr).
    quiet
        Print warnings only.
    """

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self._last: jobs.Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Clear what is not meant to stay."""

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Log):
            if event.level == "warning":
                self._line(Text.assemble(("Warning: ", "bold yellow"), event.message))
            elif not self.quiet:
                self._line(Text(event.message))
        elif self.quiet:
            return
        elif isinstance(event, EpochEnd):
            self._line(Text(epoch_text(event), style="bold" if event.best else ""))
        elif isinstance(event, jobs.Progress):
            last, self._last = self._last, event
            # A stage that was finished and reports again is another run of it.
            begins = last is None or last.stage != event.stage or last.done >= last.total
            self.progress(event, begins)

    def progress(self, event: jobs.Progress, begins: bool) -> None:
        """Show how far a stage is; `begins` with its first event."""

    def _line(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


class LinesView(View):
    """Progress as a line now and then, for log files."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._began = self._printed = 0.0
        self._first = 0

    def progress(self, event: jobs.Progress, begins: bool) -> None:
        """Print a line when a stage begins, ends, and every few seconds between."""
        now = time.monotonic()
        if begins:
            self._first, self._began = event.done, now
        elif event.done < event.total and now - self._printed < _LINE_EVERY:
            return
        self._printed = now
        elapsed = now - self._began
        text = f"{event.stage}: {event.done}/{event.total}, {elapsed:.0f} s"
        new = event.done - self._first
        if new > 0 and event.done < event.total:
            text += f", about {elapsed / new * (event.total - event.done):.0f} s left"
        self._line(Text(text))


class LiveView(View):
    """Progress as a bar with percentage, elapsed time and time left."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.stop()

    def progress(self, event: jobs.Progress, begins: bool) -> None:
        """Move the bar; a new stage gets a new one."""
        if self._task is None or begins:
            if self._task is not None:
                self._bars.remove_task(self._task)
            # Begun with what is done already, so that resumed work does not spoil the estimate.
            self._task = self._bars.add_task(event.stage, total=event.total, completed=event.done)
        else:
            self._bars.update(self._task, completed=event.done, total=event.total)
