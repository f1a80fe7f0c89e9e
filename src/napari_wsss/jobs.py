"""Jobs: long work as a generator of events, the same for a panel, a terminal and a worker.

A job is a generator ``job(inputs, settings, cancel) -> Iterator[Event]``. It yields
frozen events often (at least once per batch) and *returns* its result. Whoever runs it
decides what to do with the events; the computation is the same in all cases.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_wsss.errors import CancelledError, WsssError

if TYPE_CHECKING:  # the command line shows its help without numpy
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BlockDone",
    "CancelToken",
    "EpochEnd",
    "Event",
    "Example",
    "Examples",
    "Job",
    "Log",
    "Progress",
    "ResultCreated",
    "run_job",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """Base class of everything a job reports."""


@dataclass(frozen=True)
class Progress(Event):
    """`done` of `total` units of the step called `stage` are finished."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class EpochEnd(Event):
    """One training epoch ended with these scalar `metrics`."""

    epoch: int
    epochs: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    best: bool = False


@dataclass(frozen=True, eq=False)
class Example:
    """A held-out patch beside what a network makes of it.

    Attributes
    ----------
    name
        Name of the patch.
    image
        (H, W, 3) uint8.
    target, prediction
        (H, W) class indices; 255 in the target where it says nothing.
    """

    name: str
    image: NDArray[np.uint8]
    target: NDArray[np.uint8]
    prediction: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Examples(Event):
    """A few held-out patches as the segmenter sees them after `epoch`, always the same ones."""

    epoch: int
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class BlockDone(Event):
    """The block with its first output pixel at (`y`, `x`) and this size is on disk."""

    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class ResultCreated(Event):
    """The result at `path` is there to be looked at; it grows until the job ends."""

    path: Path


@dataclass(frozen=True)
class Log(Event):
    """A line for the user; `level` is ``"info"`` or ``"warning"``."""

    message: str
    level: str = "info"


Job = Generator[Event, None, T]


class CancelToken:
    """A flag that another thread sets to stop a job at its next safe point."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop."""
        self._flag.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._flag.is_set()

    def raise_if_cancelled(
        self, then: str = "What was finished is kept; start it again to go on."
    ) -> None:
        """Raise `CancelledError` if `cancel` was called; `then` says what can be done next."""
        if self.cancelled:
            raise CancelledError(f"The job was cancelled. {then}")


def run_job(job: Job[T], on_event: Callable[[Event], Any] | None = None) -> T:
    """Run `job` to its end in this thread and return its result.

    Parameters
    ----------
    job
        A generator of events.
    on_event
        Called with every event, in order.

    Returns
    -------
    T
        The job's return value.

    Raises
    ------
    WsssError
        Whatever the job raises. A bare ``RuntimeError`` (an out-of-memory error of a
        device is one) becomes a `WsssError`, so that no front end can lose it.
    """
    try:
        while True:
            event = next(job)
            if on_event is not None:
                on_event(event)
    except StopIteration as stop:
        return stop.value
    except WsssError:
        raise
    except RuntimeError as error:
        raise WsssError(f"The computation failed: {error}") from error
    finally:
        job.close()
