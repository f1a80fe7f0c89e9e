"""The family of errors a user can meet.

Every message says what went wrong, where, and what to do about it. Exceptions of
other libraries are translated where they are caught, so that a panel or a terminal
can show ``str(error)`` as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "CancelledError",
    "CheckpointError",
    "DataError",
    "MissingDependencyError",
    "MissingResolutionError",
    "ModelError",
    "OutputError",
    "SettingsError",
    "SlideError",
    "TrainingError",
    "WsssError",
    "listed",
]


class WsssError(Exception):
    """Base class of every error that napari-wsss raises on purpose."""


class SlideError(WsssError):
    """A slide cannot be opened or read."""


class MissingResolutionError(SlideError):
    """Micrometres per pixel are needed, unknown, and never assumed."""


class DataError(WsssError):
    """A patch set, a mask or a class table is not usable as it is."""


class ModelError(WsssError):
    """A model does not fit what it is asked to do."""


class CheckpointError(ModelError):
    """A checkpoint file is damaged, foreign, or does not match its architecture."""


class TrainingError(WsssError):
    """Training stopped because going on would not give a usable model."""


class OutputError(WsssError):
    """A result cannot be written where it was asked for."""


class SettingsError(WsssError):
    """A settings file holds an unknown name or a value out of bounds."""


class MissingDependencyError(WsssError):
    """An optional package is needed for this input."""


class CancelledError(WsssError):
    """The job was cancelled; what had been written is kept and can be resumed."""


def listed(items: Iterable[object], most: int = 20) -> str:
    """Format `items` as an indented list, one per line, for an error message.

    Parameters
    ----------
    items
        What to list; ``str`` is applied to each.
    most
        Lines printed before the rest is summed up as a count.

    Returns
    -------
    str
        The lines, each beginning with a line break and two blanks.
    """
    rows = [str(item) for item in items]
    text = "".join(f"\n  - {row}" for row in rows[:most])
    if len(rows) > most:
        text += f"\n  - and {len(rows) - most} more"
    return text
