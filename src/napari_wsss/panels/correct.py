"""Dock panel: correct a segmentation by hand, region by region."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_wsss.errors import WsssError
from napari_wsss.panels.correct_drafts import DraftBox
from napari_wsss.panels.correct_jobs import Opened, Written, model_job, open_job, write_job
from napari_wsss.panels.correct_region import Region, RegionPicker, viewed_region
from napari_wsss.panels.correct_result import ResultBox
from napari_wsss.panels.correct_session import Session, View, show_stored
from napari_wsss.panels.correct_tools import AreaTable, PaintTools
from napari_wsss.panels.correct_training import TrainingBox
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.shown_results import result_of
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    import napari
    import numpy as np
    from napari.layers import Labels
    from numpy.typing import NDArray

__all__ = ["CorrectPanel"]

#: Milliseconds after the last stroke until the areas follow.
_AREAS_MS = 150
#: A turn of its own, so that painting goes on while a model trains.
_LANE = "corrections"


class CorrectPanel(Panel):
    """Opens regions of a result for painting and writes them back."""

    title = "Correct"
    order = 7

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.session: Session | None = None
        self._note = ""
        self._restoring: Session | None = None
        self._writing: Session | None = None
        self._opener, self._restorer = JobRunner(), JobRunner()
        self._picker = RegionPicker(viewer)
        self._areas_timer = QTimer(self)
        self._areas_timer.setSingleShot(True)
        self._areas_timer.setInterval(_AREAS_MS)
        self._build()
        self._connect()
        self.results.choose()

    def _build(self) -> None:
        self.results = ResultBox(self.viewer, self.state, _LANE)
        self.body.addWidget(self.results)
        self.draw = _button("Draw a region", "Draw a rectangle on the result")
        self.take_view = _button("Current view", "Take what the viewer shows now")
        self.body.addLayout(_row(self.draw, self.take_view))
        self.drafts = DraftBox()
        self.body.addWidget(self.drafts)
        self.tools = PaintTools()
        self.body.addWidget(self.tools)
        self.areas = AreaTable()
        self.body.addWidget(self.areas)
        self.write = JobView("Write back")
        self.restore = _button(
            "Restore model's labels",
            "Paint what the model had found before any correction; write back to store it",
        )
        self.discard = _button("Discard", "")
        self.body.addWidget(self.write)
        self.body.addLayout(_row(self.restore, self.discard))
        self.training = TrainingBox(self.viewer, self.state)
        self.section("Training set", folded=True).addWidget(self.training)

    def _connect(self) -> None:
        self.state.changed.connect(self._state_changed)
        self.results.chosen.connect(self._result_chosen)
        self.results.looked.connect(self._refresh)
        self.results.show_requested.connect(self._open_layers)
        self.draw.clicked.connect(self._draw)
        self.take_view.clicked.connect(self._take_view)
        self._picker.drawn.connect(self.open_region)
        self.drafts.go_on.connect(self.open_region)
        self.drafts.forgotten.connect(self.results.look_again)
        self.drafts.failed.connect(self._failed)
        self._opener.finished.connect(self._opened)
        self._opener.failed.connect(self._failed)
        self._opener.ended.connect(self._refresh)
        self._restorer.finished.connect(self._show_models)
        self._restorer.failed.connect(self._failed)
        self._restorer.ended.connect(self._refresh)
        self.write.requested.connect(self.write_back)
        self.write.runner.finished.connect(self._written)
        self.write.runner.ended.connect(self._refresh)
        self.restore.clicked.connect(self._restore)
        self.discard.clicked.connect(self.discard_paint)
        self._areas_timer.timeout.connect(self._show_areas)
        self.viewer.layers.events.removed.connect(self._layer_removed)

    # -- the result -----------------------------------------------------------------------

    @property
    def layer(self) -> Labels | None:
        """The layer of the result; None if there is none."""
        return self.results.layer

    def _state_changed(self, name: str) -> None:
        if name != "result":
            return
        if self.session is None or self.session.result.path == self.state.result:
            self.results.choose_last()
        else:  # who paints goes on painting, whatever is opened meanwhile
            self.results.choose()

    def _result_chosen(self) -> None:
        self._picker.stop()
        session = self.session
        if session is not None and (
            self.layer is None or session.result.path != self.results.path
        ):
            self.close_region()

    def _open_layers(self) -> None:
        path = self.state.result
        if path is not None:
            try:
                self.viewer.open(str(path), plugin="napari-wsss")
            except WsssError as error:
                self.write.show_error(error)

    # -- regions --------------------------------------------------------------------------

    def _draw(self) -> None:
        if self.layer is not None:
            self._picker.start(self.layer)
            self._say("Draw a rectangle on the result: press, drag, let go.")

    def _take_view(self) -> None:
        if self.layer is None:
            return
        region = viewed_region(self.viewer, self.layer)
        if region is None:
            self._say("The viewer shows no part of the result. Move it into view first.")
        else:
            self.open_region(region)

    def open_region(self, region: Region) -> None:
        """Take (y, x, height, width) of the chosen result into an editable layer."""
        look = self.results.look
        if look is None or self._opener.running:
            return
        from napari_wsss.inference.corrections import region_problem
        from napari_wsss.inference.tiles import Rect

        problem = region_problem(look.result, Rect(*region))
        if problem is not None:
            self._say(problem)
            return
        self.write.clear()
        self.close_region()
        path = look.result.path
        self._opener.start("Corrections", lambda _: open_job(path, region), lane=_LANE)
        self._refresh()

    def _opened(self, opened: Opened) -> None:
        layer = self.layer
        if self._closed or layer is None or result_of(layer) != opened.result.path:
            return  # another result was chosen meanwhile
        self.session = session = Session(
            self.viewer, opened.result, opened.rect, opened.labels, View.of(layer), opened.draft
        )
        events = session.layer.events
        for emitter in (events.paint, events.labels_update, events.set_data):
            emitter.connect(self._touched)
        self.tools.paint_on(session.layer, opened.result.classes)
        self.drafts.follow(session)
        self._note = ""
        if opened.draft is not None and not session.painted:
            self.drafts.drop(session)  # it was written back just before the viewer closed
        elif opened.draft is not None:
            self._note = "Paint that was not written back is shown again. "
        self._show_areas()
        self._refresh()

    def close_region(self) -> None:
        """Put the region away; paint that is not written back is kept for later."""
        session = self._end_session()
        if session is not None:
            self.drafts.save(session)
            self._put_away(session)
            self.results.look_again()
        self._refresh()

    def discard_paint(self) -> None:
        """Put the region away without its paint."""
        session = self._end_session()
        if session is None:
            return
        self._put_away(session)
        self.drafts.drop(session)
        self.results.look_again()
        self._refresh()

    def _end_session(self) -> Session | None:
        session, self.session = self.session, None
        self._areas_timer.stop()
        self.drafts.follow(None)
        if session is not None:
            self.tools.release()
            self.areas.clear()
            events = session.layer.events
            for emitter in (events.paint, events.labels_update, events.set_data):
                emitter.disconnect(self._touched)
        return session

    def _put_away(self, session: Session) -> None:
        session.remove()
        if self.layer is not None:  # napari would be left with no layer selected
            self.viewer.layers.selection.active = self.layer

    def _layer_removed(self, event: Any) -> None:
        if self.session is not None and not self.session.shown:
            self.close_region()

    # -- paint ----------------------------------------------------------------------------

    def _touched(self, _: object = None) -> None:
        self._note = ""
        self._areas_timer.start()
        self.drafts.touched()

    def _show_areas(self) -> None:
        session = self.session
        if session is None:
            return
        from napari_wsss.inference import areas_with

        now = session.labels
        self.areas.show_areas(
            session.result.classes,
            session.result.summary()["classes"],
            areas_with(session.result, session.before, now),
        )
        self._refresh()

    def _restore(self) -> None:
        session = self.session
        if session is None or self._restorer.running:
            return
        self._restoring = session
        result, rect = session.result, session.rect
        self._restorer.start("Corrections", lambda _: model_job(result, rect), lane=_LANE)

    def _show_models(self, labels: NDArray[np.uint8]) -> None:
        if self.session is not None and self.session is self._restoring:
            self.session.replace(labels)

    # -- writing --------------------------------------------------------------------------

    def write_back(self) -> None:
        """Write the paint into the result."""
        session = self.session
        if session is None or self.write.runner.running:
            return
        self._writing = session
        result, rect, labels = session.result, session.rect, session.labels.copy()
        before = session.before
        self.write.run(
            "Corrections", lambda _: write_job(result, rect, labels, before), lane=_LANE
        )

    def _written(self, written: Written) -> None:
        if self._closed:
            return
        show_stored(self.viewer, written.result)
        session, self._writing = self._writing, None
        if session is not None:
            session.stored(written.result, written.sent, written.labels)
            if not session.painted:
                self.drafts.drop(session)
        self._note = "Written back; the areas follow. "
        self.state.changed.emit("result")  # the same folder, but other areas
        self._show_areas()

    # -- what is possible -----------------------------------------------------------------

    def _say(self, text: str) -> None:
        self.say(f"{self._note}{text}")

    def _failed(self, error: BaseException) -> None:
        self.write.show_error(error)

    def _refresh(self, _: object = None) -> None:
        if self._closed:
            return
        layer, session, look = self.layer, self.session, self.results.look
        ready = layer is not None and look is not None and not self._opener.running
        painted = session is not None and session.painted
        self.draw.setEnabled(ready)
        self.take_view.setEnabled(ready)
        offered = () if look is None or session is not None else look.drafts
        self.drafts.offer(None if look is None else look.result.path, offered)
        for widget in (self.tools, self.areas, self.write, self.restore, self.discard):
            widget.setVisible(session is not None or (widget is self.write and self._has_error))
        self.write.set_ready(None if painted else "Nothing to write back.")
        self.discard.setText("Discard" if painted else "Close the region")
        self.discard.setToolTip("Put the region away without its paint" if painted else "")
        self.training.follow(session, painted)
        self._guide_user(painted)

    @property
    def _has_error(self) -> bool:
        return bool(self.write.error.text())

    def _guide_user(self, painted: bool) -> None:
        if self.layer is None:
            self.say("Open a segmented slide: segment one in Segment slide, or drop its "
                     "NAME.ome.zarr folder into the viewer.")  # fmt: skip
        elif self.results.problem is not None:
            self.say(self.results.problem)
        elif self.session is None:
            self.say("Choose a region to correct: draw it, or take the current view.")
        elif painted:
            self._say("Not stored yet. Write back when the region is right.")
        elif self._note.startswith("Written"):
            self._say("Next: another region, or add this one to the training set.")
        else:
            self._say("Choose a class and paint on the region.")

    # -- coming and going -----------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Choose classes by their keys also after a click in the panel."""
        if event is None or not self.tools.press(event):
            super().keyPressEvent(event)

    def on_hidden(self) -> None:
        """Give up drawing a region: the next drag is for another panel."""
        self._picker.stop()
        self._refresh()

    def on_close(self) -> None:
        """Keep paint that is not written back, and put the layers of this panel away."""
        self.viewer.layers.events.removed.disconnect(self._layer_removed)
        self.state.changed.disconnect(self._state_changed)
        self._picker.stop()
        session = self._end_session()
        if session is not None:
            self.drafts.save(session)
            session.remove()
        self.results.stop()
        self.training.stop()
        for runner in (self._opener, self._restorer):
            runner.cancel()


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    return button


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget, 1)
    return row
