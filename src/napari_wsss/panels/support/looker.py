"""Looking at a panel's inputs in a thread, each time that they have settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.work import JobRunner

__all__ = ["Looker"]

#: Milliseconds without another change before the inputs are looked at.
_SETTLED_MS = 200


class Looker(QObject):
    """Finds out what a panel must know of its inputs before its job can begin.

    Parameters
    ----------
    name
        Of the job, for others that wait for it.
    describe
        Returns what makes the job that looks at the inputs as they are now; None if nothing
        shall be looked at.
    parent
        The panel.

    Attributes
    ----------
    look
        What the job returned for the inputs as they are; None until it is known.
    changed, failed
        Signals: `look` is another one; the error of a job that failed.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(
        self,
        name: str,
        describe: Callable[[], Callable[[CancelToken], Job[Any]] | None],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self.look: Any = None
        self._name, self._describe = name, describe
        self._stale = False
        self._runner = JobRunner()
        self._runner.finished.connect(self._found)
        self._runner.failed.connect(self._failed)
        self._runner.ended.connect(self._ended)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(_SETTLED_MS)
        self._settled.timeout.connect(self._begin)

    @property
    def looking(self) -> bool:
        """Whether `look` is on its way."""
        return self._runner.running or self._settled.isActive()

    def inputs_changed(self) -> None:
        """Forget what was found, and look as soon as nothing changes any more."""
        self.look = None
        self._stale = self._runner.running
        self._runner.cancel()
        self._settled.start()
        self.changed.emit()

    def stop(self) -> None:
        """Look no more."""
        self._settled.stop()
        self._stale = False
        self._runner.cancel()

    def _begin(self) -> None:
        make = None if self._runner.running else self._describe()  # its end begins the next
        if make is not None:
            self._runner.start(self._name, make, lane="look")

    def _found(self, look: object) -> None:
        if not self._stale:
            self.look = look

    def _failed(self, error: object) -> None:
        if not self._stale:
            self.failed.emit(error)

    def _ended(self) -> None:
        if self._stale:
            self._stale = False
            self._settled.start()
        else:
            self.changed.emit()
