"""Adding a corrected region to the training set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFormLayout, QVBoxLayout, QWidget

from napari_wsss.panels.correct_jobs import add_job
from napari_wsss.panels.support.choosers import LayerChooser, PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.layer_slide import is_picture, may_be_slide, slide_problem
from napari_wsss.panels.support.shown_results import raw

if TYPE_CHECKING:
    import napari

    from napari_wsss.panels.correct_session import Session
    from napari_wsss.panels.support.state import WorkState
    from napari_wsss.patches import PatchSet

__all__ = ["TrainingBox"]


class TrainingBox(QWidget):
    """Chooses slide and folder, and adds the open region to it.

    Parameters
    ----------
    viewer
        Whose layers are offered as slides.
    state
        Told of the folder.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, state: WorkState, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._state = state
        self._session: Session | None = None
        self._painted = False
        self.slides = LayerChooser(viewer, may_be_slide, otherwise=is_picture)
        self.folder = PathField("folder", "Folder of corrections")
        self.work = JobView("Add to training set")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Slide", self.slides)
        form.addRow(self.folder)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(form)
        layout.addWidget(self.work)
        self.slides.chosen.connect(self._refresh)
        self.folder.changed.connect(self._refresh)
        self.work.requested.connect(self.add)
        self.work.runner.finished.connect(self._added)
        self._suggest()
        state.changed.connect(self._suggest)

    def follow(self, session: Session | None, painted: bool) -> None:
        """Take another region; `painted` says whether some of it is not written back."""
        self._session, self._painted = session, painted
        self._refresh()

    def add(self) -> None:
        """Add the region."""
        session, layer, folder = self._session, raw(self.slides.layer), self.folder.path
        if session is None or layer is None or folder is None or self._problem() is not None:
            return
        result, rect = session.result, session.rect
        self.work.run(
            "Corrections",
            lambda cancel: add_job(result, rect, layer, folder, cancel),
            lane="training set",
        )

    def stop(self) -> None:
        """Let go of the viewer."""
        self.work.runner.cancel()
        self.slides.disconnect_viewer()
        self._state.changed.disconnect(self._suggest)

    def _suggest(self, _: str = "") -> None:
        if self.folder.path is None:
            if self._state.corrections is not None:
                self.folder.path = self._state.corrections
            elif self._state.folder is not None:
                self.folder.path = self._state.folder / "corrections"

    def _added(self, patches: PatchSet) -> None:
        self._state.set(corrections=patches.root)
        regions = len(set(patches.groups))
        self.work.say(
            f"{patches.root.name} holds {len(patches)} patches with true masks, of {regions} "
            f"region{'s' if regions > 1 else ''}. Next: learn from them in Train segmenter."
        )

    def _problem(self) -> str | None:
        if self._session is None:
            return "Choose a region first."
        if self._painted:
            return "Write back first: what is stored is learnt from."
        problem = slide_problem(raw(self.slides.layer))
        if problem is not None:
            return problem
        return "Choose a folder for corrections." if self.folder.path is None else None

    def _refresh(self, _: object = None) -> None:
        if not self.work.runner.running:
            self.work.set_ready(self._problem())
