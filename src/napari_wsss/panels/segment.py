"""Dock panel: segment a slide, block by block, on screen as it grows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel

from napari_wsss.errors import SettingsError, WsssError
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Progress, ResultCreated
from napari_wsss.panels.segment_exports import ExportButtons
from napari_wsss.panels.segment_jobs import Inputs, Look, look_job, prepare_job, run_job
from napari_wsss.panels.segment_words import MppField, differs_text, model_text, start_text
from napari_wsss.panels.support import helper
from napari_wsss.panels.support.choosers import LayerChooser, PathField
from napari_wsss.panels.support.forms import SettingsForm
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.later import soon
from napari_wsss.panels.support.layer_slide import (
    is_picture,
    layer_mpp,
    may_be_slide,
    slide_problem,
)
from napari_wsss.panels.support.legend import Legend
from napari_wsss.panels.support.live import LiveResult, Place, ViewCentre
from napari_wsss.panels.support.looker import Looker
from napari_wsss.panels.support.model_field import ModelField
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.panels.support.shown_results import ShownResult, layers_of
from napari_wsss.panels.support.work import JobRunner
from napari_wsss.settings import InferenceSettings

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["SegmentPanel"]

_PURPOSE = "Segments a slide with a trained model, beginning where you look."
_NEXT = "Segmented. Next: mend what is wrong in Correct, or export the result below."
_UNFINISHED = (
    "What is shown is not finished, and the areas are those of its part that is. The same slide, "
    "model and settings go on with it."
)
_ANOTHER = "To segment a slide, drop its file into the viewer."
#: Milliseconds between two refreshes of the layers, and of the areas.
_REFRESH_MS, _AREAS_MS = 200, 1000


class SegmentPanel(Panel):
    """Segments slides and shows the result as it grows.

    Parameters
    ----------
    viewer
        The viewer it works in.
    """

    title = "Segment slide"
    order = 6

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._result: ShownResult | None = None  # that legend and areas are of
        self._centre: ViewCentre | None = None
        self._running: Inputs | None = None
        self._suggested: Path | None = None
        self._outcome = ""  # what is said of a run that was stopped
        self._prepared: Look | None = None
        self._preparer = JobRunner()
        self._build()
        self._looker = Looker("Look at slide and model", self._look_maker, self)
        self._refreshing = _timer(self, _REFRESH_MS, self._refresh)
        self._counting = _timer(self, _AREAS_MS, self._count)
        self._connect()
        self._slide_chosen()
        self._show_opened()

    def _build(self) -> None:
        self.slide = LayerChooser(self.viewer, may_be_slide, otherwise=is_picture)
        self.mpp = MppField("Micrometres per pixel of the slide, which its file does not say")
        self.model = ModelField("Choose one, or name a model file")
        self.model_mpp = MppField("Micrometres per pixel of the patches the model learned from")
        self.model_text = _small_label()
        self.folder = PathField("folder", "Folder of results")
        self.uncertainty = QCheckBox("Show uncertainty")
        self.uncertainty.setToolTip(
            "<p>Colours where the model hesitates between classes: the entropy of what it "
            "predicts. It is stored in any case.</p>"
        )
        self.form = SettingsForm(InferenceSettings, ("tissue_only",))
        self.replace = QCheckBox("Replace it")
        self.in_the_way = _small_label()
        self.job = JobView("Segment slide")
        self.shown = _small_label()
        self.shown.setStyleSheet("font-weight: bold;")
        self.legend = Legend()
        self.exports = ExportButtons(self._picture_slide)
        inputs = QFormLayout()
        inputs.setContentsMargins(0, 0, 0, 0)
        inputs.setVerticalSpacing(4)
        inputs.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        inputs.addRow("Slide", self.slide)
        inputs.addRow("", self.mpp)
        inputs.addRow("Model", self.model)
        inputs.addRow("", self.model_text)
        inputs.addRow("", self.model_mpp)
        inputs.addRow("Results in", self.folder)
        self._inputs = inputs
        for row in (self.mpp, self.model_text, self.model_mpp):
            self._show_row(row, False)  # until a look says that it is needed
        self.body.addLayout(inputs)
        below = (self.form, self.in_the_way, self.replace, self.job, self.shown, self.legend)
        for widget in (*below, self.uncertainty):
            self.body.addWidget(widget)
        self.section("Export").addWidget(self.exports)
        self.model.path = self.state.segmenter or self.state.classifier

    def _connect(self) -> None:
        self.state.changed.connect(self._state_changed)
        self.slide.chosen.connect(self._slide_chosen)
        for signal in (self.mpp.valueChanged, self.model_mpp.valueChanged, self.form.changed):
            signal.connect(self._inputs_changed)
        self.model.changed.connect(self._inputs_changed)
        self.folder.changed.connect(self._inputs_changed)
        self.replace.toggled.connect(self._update)
        self.uncertainty.toggled.connect(self._show_uncertainty)
        self.legend.hidden_changed.connect(self._hide_classes)
        self._looker.changed.connect(self._update)
        self._looker.changed.connect(self._prepare)
        self._preparer.ended.connect(self._prepare)
        self._looker.failed.connect(self.job.show_error)
        self.job.requested.connect(self._start)
        runner = self.job.runner
        runner.event.connect(self._event)
        runner.finished.connect(self._finished)
        runner.cancelled.connect(self._stopped)
        runner.ended.connect(self._ended)

    def on_shown(self) -> None:
        """Let the helper process load torch while the user chooses."""
        helper.start()

    def on_close(self) -> None:
        """Stop what runs; a segmentation can be gone on with."""
        self._looker.stop()
        self._preparer.cancel()
        for timer in (self._refreshing, self._counting):
            timer.stop()
        self.job.runner.cancel()
        self.exports.job.runner.cancel()
        self._unfollow()
        self.slide.disconnect_viewer()
        self.state.changed.disconnect(self._state_changed)

    # -- inputs -----------------------------------------------------------------------

    def _slide_chosen(self, _: object = None) -> None:
        self.mpp.reset()
        self._suggest_folder()
        self._inputs_changed()

    def _suggest_folder(self) -> None:
        """Offer the folder of the user's work, or that of the slide, until one is chosen."""
        if self.folder.path not in (None, self._suggested):
            return
        layer = self.slide.layer
        source = None if layer is None else layer.source.path
        beside = Path(source).parent if source is not None else None
        self._suggested = self.state.folder or beside or preferences().work_folder
        self.folder.path = self._suggested

    def _state_changed(self, name: str) -> None:
        if name == "segmenter" and self.state.segmenter is not None:
            self.model.path = self.state.segmenter
        elif name == "classifier" and self.model.path is None:
            self.model.path = self.state.classifier
        elif name == "folder":
            self._suggest_folder()
        elif name in ("result", "shown"):
            soon(self, self._show_opened)  # once all of its layers are there
            if name == "result":
                self._count()
                self._update()

    def _inputs_changed(self, _: object = None) -> None:
        self.replace.setChecked(False)
        if not self.job.runner.running:
            self._outcome = ""
            self.job.clear()
        self._looker.inputs_changed()

    def _look_maker(self) -> partial[Job[Look]] | None:
        """Return what looks at the inputs; None while the segmentation runs, or without any."""
        if self.job.runner.running:
            return None
        try:
            return partial(look_job, self._described())
        except SettingsError:
            return None  # the form says it

    def _prepare(self) -> None:
        """Get ready what a run begins with while the user still looks; other inputs end it."""
        look = cast("Look | None", self._looker.look)
        if look is not self._prepared:
            self._preparer.cancel()
        idle = not self._preparer.running and not self.job.runner.running and not self._closed
        begins = look is not None and look.status is not None and look.status.state != "finished"
        if not idle or not begins or look is self._prepared:
            return
        try:
            inputs = self._described()
        except SettingsError:
            return
        self._prepared = look
        self._preparer.start("Prepare", lambda c: prepare_job(inputs, c), lane="prepare")

    def _described(self) -> Inputs:
        """Return what the panel says; SettingsError if the form holds what does not fit."""
        layer = self.slide.layer
        return Inputs(
            layer=layer if slide_problem(layer) is None else None,
            mpp=self.mpp.value_or_none(),
            model=self.model.path,
            model_mpp=self.model_mpp.value_or_none(),
            folder=self.folder.path or preferences().work_folder,
            settings=cast("InferenceSettings", self.form.settings()),
            device=preferences().device,
        )

    def _picture_slide(self) -> tuple[Layer | None, float | None]:
        layer = self.slide.layer
        return layer if slide_problem(layer) is None else None, self.mpp.value_or_none()

    def _missing(self) -> str | None:
        """Return what keeps the button from working, in words for the user."""
        look = cast("Look | None", self._looker.look)
        problem = slide_problem(self.slide.layer)
        if problem is not None:
            other = self.slide.layer is None and self._result is not None
            return _ANOTHER if other else problem
        if self.model.path is None:
            return "Choose a model above, or train your own in Train segmenter."
        try:
            self.form.settings()
        except SettingsError:
            return "A setting does not fit; the form says which."
        if look is None:
            return "Looking at slide and model …" if self._looker.looking else None
        if look.slide_problem or look.model_problem:
            return look.slide_problem or look.model_problem
        if look.slide_mpp is None:
            return "The slide does not say how large its pixels are. Give its µm/px above."
        if look.info is not None and look.info.mpp is None and not self.model_mpp.value():
            return "The model does not say at which µm/px it was trained. Give it above."
        if look.place_problem:
            return look.place_problem
        if look.status is not None and look.status.state == "other":
            if not look.status.different:
                return "Choose another folder: what is there is no result."
            if not self.replace.isChecked():
                return "Choose another folder, or allow the result to be replaced."
        return None

    def _update(self, _: object = None) -> None:
        """Bring everything that depends on the inputs up to date."""
        look = cast("Look | None", self._looker.look)
        layer = self.slide.layer
        unknown = look is not None and look.slide_mpp is None and not look.slide_problem
        asks = layer is not None and layer_mpp(layer) is None
        self._show_row(self.mpp, slide_problem(layer) is None and asks
                       and (unknown or self.mpp.value() > 0))  # fmt: skip
        info = None if look is None else look.info
        if look is not None:
            self._show_row(self.model_mpp, info is not None and info.mpp is None)
            self.model_text.setText(model_text(info))
        self._show_row(self.model_text, bool(self.model_text.text()))
        status = None if look is None else look.status
        other = status is not None and status.state == "other"
        self.in_the_way.setText(differs_text(status) if status is not None and other else "")
        self.in_the_way.setVisible(other)
        self.replace.setVisible(other and bool(status and status.different))
        if not self.job.runner.running:
            self.job.set_start(start_text(status))
            self.job.set_ready(self._missing())
            if self._outcome:
                self.job.say(self._outcome)
            if info is not None and self._result is None:
                self.legend.set_classes(info.class_table)
        self.uncertainty.setEnabled(self._result is not None)
        shown = None if self._result is None else self._result.path
        self.shown.setText("" if shown is None else shown.name.removesuffix(".ome.zarr"))
        self.shown.setVisible(shown is not None)
        result = None if self.job.runner.running else self.state.result
        # What is exported is what the legend is of.
        self.exports.set_result(result if shown in (None, result) else None)
        if shown is None or self.job.runner.running:
            self.say(_PURPOSE)
        else:
            self.say(_NEXT if result == shown else _UNFINISHED)

    def _show_row(self, field: QLabel | MppField, shown: bool) -> None:
        self._inputs.setRowVisible(field, shown)

    # -- segmenting -------------------------------------------------------------------

    def _start(self) -> None:
        look = cast("Look | None", self._looker.look)
        try:
            inputs = self._described()
        except SettingsError as error:
            self.job.show_error(error)
            return
        if inputs.layer is None:
            return
        self._unfollow()
        self._running = inputs
        self._centre = ViewCentre(self.viewer, Place.of(inputs.layer))
        status = None if look is None else look.status
        if status is not None and status.state == "finished":
            self._show(status.path)
            self._done(status.path)
            return
        centre, overwrite = self._centre, status is not None and status.state == "other"
        if overwrite and status is not None and status.path == self.state.result:
            self.state.set(result=None)
        if look is not None and look.info is not None and look.info.kind == "segmenter":
            self.state.set(segmenter=inputs.model)

        def make(cancel: CancelToken) -> Job[Path]:
            return run_job(inputs, lambda: centre.yx, overwrite, cancel)

        self._looker.stop()
        self._outcome = ""
        self.job.run(f"Segment {inputs.layer.name}", make)

    def _event(self, event: Event) -> None:
        if self._closed:
            return
        if isinstance(event, ResultCreated):
            self._show(event.path)
        elif isinstance(event, BlockDone | Progress):
            for timer in (self._refreshing, self._counting):
                if not timer.isActive():
                    timer.start()

    def _show(self, path: Path) -> None:
        """Show a result that is there, in place of what is shown of it; others stay."""
        if self._running is None or self._running.layer is None:
            return
        before = self._result
        try:
            if before is not None and before.still_shows(path):
                before.refresh(thumbnail=True)
                self._count()
                return
            place = Place.of(self._running.layer)
            earlier = layers_of(self.viewer, path)
            # Clicks are answered between adding and drawing while a run is on.
            later = self.job.runner.running
            self._result = live = LiveResult(self.viewer, path, place, visible=not later)
            if later:
                soon(self, live.appear)
            live.take_over(earlier)
        except WsssError as error:
            self._result = None
            self.job.show_error(error)
            return
        self._sum_up()

    def _show_opened(self) -> None:
        """Sum up a result that was opened, unless one is being made."""
        path, before = self.state.shown, self._result
        if path is None or self._closed or self.job.runner.running:
            return
        if before is not None and before.path == path and before.labels in before.layers:
            return
        try:
            found = ShownResult.find(self.viewer, path)
        except WsssError as error:
            self.job.show_error(error)
            return
        if found is not None:
            self._result = found
            self._sum_up()

    def _sum_up(self) -> None:
        """Let legend, areas, uncertainty and exports be those of the result that is shown."""
        if self._result is not None:
            self.legend.set_classes(self._result.classes)
        self._hide_classes()
        self._show_uncertainty(self.uncertainty.isChecked())
        self._count()
        self._update()

    def _refresh(self, *, last: bool = False) -> None:
        if self._result is not None:
            self._result.refresh(thumbnail=last)

    def _count(self) -> None:
        if self._result is None:
            return
        from napari_wsss.inference import areas_so_far

        try:
            self.legend.set_areas(areas_so_far(self._result.path))
        except WsssError:
            self.legend.set_areas(None)  # the folder is gone, which the run itself says

    def _finished(self, path: Path) -> None:
        if self._closed:
            return
        if self._result is None or self._result.path != path:
            self._show(path)
        self._done(path)

    def _done(self, path: Path) -> None:
        """Hand a finished result on."""
        self._count()
        self.state.set(result=path)
        self._unfollow()
        self._update()

    def _stopped(self) -> None:
        self._outcome = self.job.message.text()  # what can be done next, kept in view

    def _ended(self) -> None:
        if self._closed:
            return
        self._unfollow()
        self._refresh(last=True)
        self._count()
        self._looker.inputs_changed()

    def _unfollow(self) -> None:
        if self._centre is not None:
            self._centre.disconnect()
            self._centre = None

    # -- looking ----------------------------------------------------------------------

    def _hide_classes(self) -> None:
        if self._result is not None:
            self._result.hide(self.legend.hidden)

    def _show_uncertainty(self, shown: bool) -> None:
        if self._result is not None:
            self._result.show_uncertainty(shown)


def _timer(panel: SegmentPanel, milliseconds: int, slot: Callable[[], None]) -> QTimer:
    """Return a timer that fires once, so that many events are answered once."""
    timer = QTimer(panel)
    timer.setSingleShot(True)
    timer.setInterval(milliseconds)
    timer.timeout.connect(slot)
    return timer


def _small_label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label
