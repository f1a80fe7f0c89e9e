"""Looking for labels that may be wrong, as a part of the data set panel."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.patches import PatchSet, Problem

__all__ = ["LabelCheck"]

_NONE_FOUND = "No label is at odds with those of similar patches of other images."


class LabelCheck(QWidget):
    """A button that compares labels with those of similar patches of other images.

    Attributes
    ----------
    found
        Signal with a list of `Problem`: what is doubted, or that nothing is.
    """

    found = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._patches: PatchSet | None = None
        self._looked_at: PatchSet | None = None
        self.job = JobView("Look for wrong labels")
        self.job.button.setToolTip(
            "<p>Compares each label with those of the most similar patches of other images; "
            "about half a minute per thousand patches.</p>"
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.job)
        self.job.requested.connect(self._begin)
        self.job.runner.finished.connect(self._finished)
        self.show_set(None, usable=False)

    def show_set(self, patches: PatchSet | None, *, usable: bool) -> None:
        """Offer to look at a set; only one that can be trained on, of several images."""
        self._patches = patches
        self.job.runner.cancel()
        self.job.clear()
        several = patches is not None and len(set(patches.groups)) > 1
        self.setVisible(several and usable)

    def _begin(self) -> None:
        patches, device = self._patches, preferences().device
        if patches is None:
            return
        self._looked_at = patches

        def make(cancel: CancelToken) -> Job[list[Problem]]:
            from napari_wsss.patches.doubts import doubts_job, doubts_problem

            doubts = yield from doubts_job(patches, device=device, cancel=cancel)
            return doubts_problem(doubts, len(patches.train())) or [Problem("info", _NONE_FOUND)]

        self.job.run("Look for wrong labels", make)

    def _finished(self, problems: list[Problem]) -> None:
        self.job.clear()
        if self._looked_at is self._patches:
            self.found.emit(problems)
