"""What is done once the event that is being handled is over."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QObject, QTimer

__all__ = ["soon"]


def soon(owner: QObject, call: Callable[[], object]) -> None:
    """Call something in the next round of events, unless its owner is gone by then.

    ``QTimer.singleShot`` alone calls a method of a widget that was deleted meanwhile, with
    PySide6; and it takes no owner, with PyQt6.

    Parameters
    ----------
    owner
        Without which nothing is to be called.
    call
        What to call.
    """
    timer = QTimer(owner)
    timer.setSingleShot(True)
    timer.timeout.connect(call)
    timer.timeout.connect(timer.deleteLater)
    timer.start(0)
