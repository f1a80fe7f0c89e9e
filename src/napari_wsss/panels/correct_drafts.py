"""Paint that is not written back: kept while one paints, and offered again later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_wsss.errors import WsssError
from napari_wsss.panels.correct_jobs import draft_job
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    from napari_wsss.inference.tiles import Rect
    from napari_wsss.panels.correct_session import Session

__all__ = ["DraftBox"]

#: Milliseconds after the last stroke until the paint is kept.
_KEEP_MS = 2500


class DraftBox(QWidget):
    """Keeps the paint of the open region, and shows what was kept of others.

    Attributes
    ----------
    go_on
        Signal with the region (y, x, height, width) to open again.
    forgotten
        Signal: paint was deleted.
    failed
        Signal with the error, if paint could not be kept.
    """

    go_on = Signal(object)
    forgotten = Signal()
    failed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._path: Path | None = None
        self._offered: Sequence[Rect] = ()
        self._session: Session | None = None
        self._turn = Lock()
        self._text = QLabel()
        self._text.setWordWrap(True)
        again, delete = QPushButton("Go on"), QPushButton("Delete it")
        again.setToolTip("Open that region with its paint")
        delete.setToolTip("Delete the paint that was not written back")
        again.clicked.connect(lambda: self.go_on.emit(self._offered[0]))
        delete.clicked.connect(self._delete_offered)
        buttons = QHBoxLayout()
        buttons.addWidget(again, 1)
        buttons.addWidget(delete, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self._text)
        layout.addLayout(buttons)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_KEEP_MS)
        self._timer.timeout.connect(self._keep)
        self._keeper = JobRunner()
        self._keeper.failed.connect(self.failed)

    def offer(self, path: Path | None, drafts: Sequence[Rect]) -> None:
        """Show what was kept of the result at `path`, the latest first."""
        self._path, self._offered = path, drafts
        self.setVisible(bool(drafts))
        if drafts:
            others = f" and {len(drafts) - 1} more" if len(drafts) > 1 else ""
            self._text.setText(f"Painted, but not written back: region {drafts[0]}{others}.")

    def follow(self, session: Session | None) -> None:
        """Keep the paint of this region from now on."""
        self._timer.stop()
        self._session = session

    def touched(self) -> None:
        """Take note of a stroke."""
        if self._session is not None:
            self._timer.start()

    def save(self, session: Session) -> None:
        """Keep the paint of a region at once, before its layer goes."""
        from napari_wsss.inference.drafts import save_draft

        if not session.painted:
            return
        self._keeper.cancel()  # its paint is older
        try:
            with self._turn:
                save_draft(session.result.path, session.draft())
        except WsssError as error:
            self.failed.emit(error)

    def drop(self, session: Session) -> None:
        """Delete what was kept of a region."""
        from napari_wsss.inference.drafts import delete_draft

        self._keeper.cancel()
        with self._turn:
            delete_draft(session.result.path, session.rect)

    def _keep(self) -> None:
        """Keep paint in a thread while one goes on painting."""
        session = self._session
        if session is None or not session.painted:
            return
        if self._keeper.running:
            self._timer.start()
            return
        draft, path, turn = session.draft(), session.result.path, self._turn
        self._keeper.start(
            "Corrections", lambda cancel: draft_job(path, draft, turn, cancel), lane="drafts"
        )

    def _delete_offered(self, _: Any = None) -> None:
        from napari_wsss.inference.drafts import delete_draft

        if self._path is not None and self._offered:
            delete_draft(self._path, self._offered[0])
            self.forgotten.emit()
