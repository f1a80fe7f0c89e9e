"""What the chosen classifier says of itself, read beside the viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from napari_wsss.panels.cams_work import header_job
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    from napari_wsss.models import ModelInfo

__all__ = ["HeaderReader"]


class HeaderReader(QObject):
    """Reads the header of one checkpoint after the other; the last one that was asked for counts.

    Attributes
    ----------
    changed
        Signal: `info` or `problem` is another one.
    path
        The checkpoint that was asked for.
    info
        Its header; None until it is read, or if it cannot be.
    problem
        What is wrong or under way, in words for the user; None if nothing is.
    """

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.path: Path | None = None
        self.info: ModelInfo | None = None
        self.problem: str | None = None
        self._reading: Path | None = None
        self._runner = JobRunner()
        self._runner.finished.connect(self._read)
        self._runner.failed.connect(self._failed)
        self._runner.ended.connect(self._ended)

    def read(self, path: Path | None) -> None:
        """Read the header of another checkpoint; None for none."""
        self.path, self.info = path, None
        self.problem = None if path is None else "Reading the classifier …"
        self._begin()
        self.changed.emit()

    def stop(self) -> None:
        """Read no more."""
        self.path = None
        self._runner.cancel()

    def _begin(self) -> None:
        path = self.path
        if path is not None and not self._runner.running:  # its end begins the next
            self._reading = path
            self._runner.start(
                "Classifier", lambda cancel: header_job(path, cancel), lane="headers"
            )

    def _read(self, info: ModelInfo) -> None:
        if self._reading == self.path:
            self.info, self.problem = info, None
            self.changed.emit()

    def _failed(self, error: BaseException) -> None:
        if self._reading == self.path:
            self.problem = str(error)
            self.changed.emit()

    def _ended(self) -> None:
        if self._reading != self.path:
            self._begin()
