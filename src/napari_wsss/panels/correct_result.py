"""Choosing the result that is corrected, and looking at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_wsss.panels.correct_jobs import Look, look_job
from napari_wsss.panels.support.choosers import LayerChooser
from napari_wsss.panels.support.shown_results import raw, result_of
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels

    from napari_wsss.panels.support.state import WorkState

__all__ = ["ResultBox"]


class ResultBox(QWidget):
    """Chooses the layer of a result, and finds out what there is of it.

    Parameters
    ----------
    viewer
        Whose layers are offered.
    state
        Names the last result, which may be in no layer.
    lane
        In which results are looked at.

    Attributes
    ----------
    chosen
        Signal: another result, or another layer of it, was chosen.
    looked
        Signal: `look` or `problem` is another one.
    show_requested
        Signal: the last result is to be opened as layers.
    layers
        The chooser.
    look
        What was found; None until then, or if the result cannot be used.
    problem
        Why it cannot be used.
    """

    chosen = Signal()
    looked = Signal()
    show_requested = Signal()

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        state: WorkState,
        lane: str,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._state, self._lane = viewer, state, lane
        self.look: Look | None = None
        self.problem: str | None = None
        self._wanted: Path | None = None
        self._again = self._stopped = False
        self._runner = JobRunner()
        self.layers = LayerChooser(viewer, lambda layer: result_of(layer) is not None)
        self.show_result = QPushButton("Show the result")
        self.show_result.setToolTip("Open the last result as layers")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Result", self.layers)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(form)
        layout.addWidget(self.show_result)
        self.layers.chosen.connect(self.choose)
        self.show_result.clicked.connect(self.show_requested)
        self._runner.finished.connect(self._found)
        self._runner.failed.connect(self._failed)
        self._runner.ended.connect(self._ended)

    @property
    def layer(self) -> Labels | None:
        """The layer of the result; None if there is none."""
        return raw(self.layers.layer)

    @property
    def path(self) -> Path | None:
        """The result that is chosen; the last one of the work if no layer shows one."""
        layer = self.layer
        return self._state.result if layer is None else result_of(layer)

    def choose(self, _: object = None) -> None:
        """Take over the choice: forget what was known of another result, and look."""
        if self.look is not None and self.look.result.path != self.path:
            self.look = None
        self.problem = None
        self.show_result.setVisible(self.layer is None and self._state.result is not None)
        self.chosen.emit()
        self.look_again()

    def choose_last(self) -> None:
        """Choose the last result of the work, if a layer shows it."""
        for layer in self._viewer.layers:
            if result_of(layer) == self._state.result:
                self.layers.layer = layer
        self.choose()

    def look_again(self) -> None:
        """Look at the chosen result anew."""
        self._wanted = path = self.path
        self._again = self._runner.running
        if path is not None and not self._again:
            self._runner.start("Corrections", lambda _: look_job(path), lane=self._lane)
        self.looked.emit()

    def stop(self) -> None:
        """Look no more, and let go of the viewer."""
        self._stopped = True
        self.layers.disconnect_viewer()
        self._runner.cancel()

    def _found(self, look: Look) -> None:
        if look.result.path == self._wanted:
            self.look, self.problem = look, None

    def _failed(self, error: BaseException) -> None:
        self.look, self.problem = None, str(error)

    def _ended(self) -> None:
        if self._stopped:
            return
        if self._again:
            self.look_again()
        else:
            self.looked.emit()
