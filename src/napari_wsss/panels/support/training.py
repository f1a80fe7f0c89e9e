"""What the two training panels share: data set, settings, file, start and stop, curves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QLabel, QMessageBox, QWidget

from napari_wsss.errors import SettingsError
from napari_wsss.jobs import CancelToken, Event, Job, Log
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.curves import Scores
from napari_wsss.panels.support.forms import SettingsForm
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.looker import Looker
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.panels.support.run_view import RunView
from napari_wsss.panels.support.training_look import (
    Look,
    Training,
    device_job,
    load_job,
    look_job,
    train_job,
)
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    import napari

    from napari_wsss.patches import PatchSet
    from napari_wsss.settings import ClassifierSettings, SegmenterSettings
    from napari_wsss.training.earlier import EarlierRun

__all__ = ["TrainingPanel"]

_GO_ON, _ANEW, _REPLACE = "Go on with it", "Begin anew", "Replace it"


class TrainingPanel(Panel):
    """Base class of the panels that train a model.

    Parameters
    ----------
    viewer
        The viewer it works in.

    Attributes
    ----------
    produces
        Kind of the model, which is also its name in the state and of its file.
    settings_model, simple
        Its settings, and those that are always in view.
    scores
        What the curves show.
    purpose, next_step
        Sentences for the guiding line: what is trained, and where to go when it is.
    """

    produces: ClassVar[Literal["classifier", "segmenter"]]
    settings_model: ClassVar[type[ClassifierSettings] | type[SegmenterSettings]]
    simple: ClassVar[tuple[str, ...]]
    scores: ClassVar[Scores]
    purpose: ClassVar[str]
    next_step: ClassVar[str]

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._suggested: Path | None = None
        self._loading: Path | None = None
        self._target: Path | None = None
        self._shown = False
        self._asked: tuple[str, str] | None = None  # device and precision
        self._build()
        self._loader, self._device = JobRunner(), JobRunner()
        self._looker = Looker("Look at the data set", self._look_maker, self)
        self._connect()
        self.say(self.purpose)
        self._data_changed()

    def _build(self) -> None:
        self.inputs = QFormLayout()
        self.inputs.setContentsMargins(0, 0, 0, 0)
        self.data = PathField("folder", "Folder of labelled patches")
        self.data_text = _small_label()
        self.form = SettingsForm(self.settings_model, self.simple)
        self.out = PathField("save", "File to write", "Models (*.safetensors)")
        self.earlier = _small_label()
        self.notes = _small_label()
        self.job = JobView("Train")
        self.device = _small_label()
        self.run_view = RunView(self.viewer, self.scores)
        self.inputs.addRow("Data set", self.data)
        self.inputs.addRow(self.data_text)
        self.add_inputs()
        below = QFormLayout()
        below.setContentsMargins(0, 0, 0, 0)
        below.addRow("Model file", self.out)
        self.body.addLayout(self.inputs)
        self.body.addWidget(self.form)
        self.body.addLayout(below)
        for widget in (self.earlier, self.notes, self.job, self.device, self.run_view):
            self.body.addWidget(widget)

    def _connect(self) -> None:
        self.state.changed.connect(self.state_changed)
        self.data.changed.connect(self._data_chosen)
        self.form.changed.connect(self.inputs_changed)
        self.out.changed.connect(self.inputs_changed)
        self._looker.changed.connect(self._refresh)
        self._looker.failed.connect(self.job.show_error)
        self._loader.finished.connect(self._loaded)
        self._loader.ended.connect(self._load_ended)
        self._loader.failed.connect(self.job.show_error)
        self._device.finished.connect(self._device_known)
        self._device.ended.connect(self._find_device)
        self.form.changed.connect(self._find_device)
        self.job.requested.connect(self.start)
        self.job.runner.event.connect(self._event)
        self.job.runner.finished.connect(self._finished)
        self.job.runner.ended.connect(self._ended)

    # -- for the panels ---------------------------------------------------------------

    def add_inputs(self) -> None:
        """Add the widgets of what is needed besides the data set."""

    def choices(self) -> tuple[QWidget, ...]:
        """Return the widgets that stay as they are while a training runs."""
        return (self.data, self.form, self.out)

    def missing(self) -> str | None:
        """Return what the user has to choose besides the data set; None if nothing."""
        return None

    def settings(self) -> ClassifierSettings | SegmenterSettings:
        """Return what the form says; SettingsError if a value does not fit."""
        return cast("ClassifierSettings | SegmenterSettings", self.form.settings())

    def training(self) -> Training:
        """Return the training that the panel's widgets describe."""
        raise NotImplementedError

    def inputs_changed(self, _: object = None) -> None:
        """Look at the inputs anew; to be called whenever one of them changes."""
        if not self.job.runner.running:
            self._looker.inputs_changed()

    def state_changed(self, name: str) -> None:
        """Take over what another panel made; called with the name of what is new."""
        if name == "patch_set":
            self._data_changed()
        elif name == "folder":
            self._suggest_out()

    # -- what is trained on -----------------------------------------------------------

    @property
    def patch_set(self) -> PatchSet | None:
        """The set that the field names; None if it is empty, or names one that is not loaded."""
        patches = self.state.patch_set
        return patches if patches is not None and self.data.path == patches.root else None

    def _data_changed(self) -> None:
        if self.state.patch_set is not None:
            self.data.path = self.state.patch_set.root
        self._show_data()

    def _show_data(self) -> None:
        patches = self.patch_set
        _show(self.data_text, "" if patches is None else _described(patches))
        self._suggest_out()
        self.inputs_changed()

    def _suggest_out(self) -> None:
        """Name a file, unless the user did, or a run writes to the one that is named."""
        patches = self.patch_set
        folder = self.state.folder or (patches.root if patches is not None else None)
        free = self.out.path in (None, self._suggested) and not self.job.runner.running
        if folder is not None and free:
            self._suggested = folder / f"{self.produces}.safetensors"
            self.out.path = self._suggested

    def _data_chosen(self, path: Path | None) -> None:
        if not self.job.runner.running:
            self.job.clear()
        if path is not None and self.patch_set is None and not self._loader.running:
            self._loading = path
            self._loader.start("Load patches", lambda _: load_job(path), lane="load")
        # The other panels keep their set: it may have colours and splits that are in no file.
        self._show_data()

    def _loaded(self, patches: PatchSet) -> None:
        if self.data.path == self._loading:
            self.state.set(patch_set=patches)

    def _load_ended(self) -> None:
        if self._closed:
            return
        if self.data.path != self._loading:
            self._data_chosen(self.data.path)
        else:
            self._refresh()

    def _look_maker(self) -> Callable[[CancelToken], Job[Look]] | None:
        """Return what looks at the inputs as they are now; None if they are not complete."""
        patches, out = self.patch_set, self.out.path
        if patches is None or self.missing() is not None or self.job.runner.running:
            return None
        try:
            settings = self.settings()
        except SettingsError:
            return None
        training = self.training()
        return lambda cancel: look_job(training, patches, settings, out, cancel)

    # -- what the panel says ----------------------------------------------------------

    def _refresh(self) -> None:
        """Say what is there and what is missing; show the curves of an earlier run."""
        if self.job.runner.running:
            return
        look: Look | None = self._looker.look
        run = None if look is None else look.run
        self.job.set_ready(self._missing())
        if self.patch_set is None:
            for label in (self.notes, self.earlier):
                _show(label, "")
            self.run_view.clear()
            self.job.set_start("Train")
            self.say(self.purpose)
        if look is None:
            return  # in a moment; until then what was shown stays
        _show(self.notes, "\n".join(f"• {p.message}" for p in look.problems))
        _show(self.earlier, "" if run is None else self._earlier_text(run))
        going_on = run is not None and self._goes_on(run)
        self.job.set_start(
            f"Go on after epoch {len(run.history)}" if run and going_on else "Train"
        )
        self._show_earlier(run)
        trained = run is not None and not run.unfinished
        self.say(self.next_step if trained else self.purpose)

    def _missing(self) -> str | None:
        if self._loader.running:
            return "Loading the patches …"
        if self.patch_set is None:
            return (
                "Choose labelled patches first: open a set in Data set, mark some in Label "
                "patches, or name their folder above."
            )
        missing = self.missing()
        if missing is not None:
            return missing
        try:
            self.settings()
        except SettingsError:
            return "Correct the settings above."
        if self.out.path is None:
            return "Name the file to write."
        look: Look | None = self._looker.look
        if look is None:
            return ""  # known in a moment
        if look.errors:
            return "Training cannot begin; the reasons stand above."
        return look.obstacle

    def _earlier_text(self, run: EarlierRun) -> str:
        if not run.unfinished:
            return "This file holds a trained model; its curves are below."
        epochs = "" if run.settings is None else f" of {run.settings.epochs}"
        text = f"An unfinished run is here, stopped after epoch {len(run.history)}{epochs}"
        if self._goes_on(run):
            return f"{text}."
        kind = "settings" if self._same_data() else "patches or masks"
        return f"{text}, with other {kind}. Train asks what shall happen to it."

    def _goes_on(self, run: EarlierRun) -> bool:
        """Whether training with the form's settings goes on with `run`."""
        try:
            return self._same_data() and run.settings == self.settings()
        except SettingsError:
            return False

    def _same_data(self) -> bool:
        return self._looker.look is not None and self._looker.look.same_data

    # -- training ---------------------------------------------------------------------

    def start(self) -> None:
        """Train, after asking about what would be replaced."""
        patches, out, look = self.patch_set, self.out.path, self._looker.look
        if patches is None or out is None or look is None or look.errors:
            return
        settings, run = self.settings(), look.run
        overwrite = run is not None and out.exists()
        if run is not None and not self._goes_on(run):
            answer = self._ask_about(run)
            if answer is None:
                return
            if answer == _GO_ON and run.settings is not None:
                settings = run.settings
                self.form.set_settings(settings)
            else:
                run, overwrite = None, True
        self._target = out
        self.run_view.show_run(
            [] if run is None else run.history, settings.epochs, patches.classes
        )
        self.earlier.setVisible(False)
        self.say("Training. You can go on working in the viewer.")
        self._lock(True)
        training, device = self.training(), preferences().device
        self.job.run(
            self.title,
            lambda cancel: train_job(training, patches, out, settings, device, overwrite, cancel),
        )

    def _ask_about(self, run: EarlierRun) -> str | None:
        """Ask what shall happen to an earlier run; None: nothing."""
        name = run.out.name
        if not run.unfinished:
            return self.ask(f"{name} holds a trained model.", _REPLACE)
        if self._same_data():
            return self.ask(
                f"{name} belongs to an unfinished run with other settings, stopped after epoch "
                f"{len(run.history)}. Going on takes its settings.",
                _GO_ON,
                _ANEW,
            )
        return self.ask(
            f"{name} belongs to an unfinished run with other patches or masks, stopped after "
            f"epoch {len(run.history)}. Beginning anew discards it.",
            _ANEW,
        )

    def ask(self, text: str, *answers: str) -> str | None:
        """Ask the user; returns one of `answers`, or None for "Cancel"."""
        box = QMessageBox(QMessageBox.Icon.Question, self.title, text, parent=self)
        buttons = {box.addButton(a, QMessageBox.ButtonRole.AcceptRole): a for a in answers}
        box.addButton(QMessageBox.StandardButton.Cancel)
        box.exec()
        return next((a for b, a in buttons.items() if b is box.clickedButton()), None)

    def _event(self, event: Event) -> None:
        self.run_view.on_event(event)
        if isinstance(event, Log) and event.level == "warning":
            said = self.notes.text()
            if event.message not in said:
                _show(self.notes, f"{said}\n• {event.message}".strip())

    def _show_earlier(self, run: EarlierRun | None) -> None:
        patches = self.patch_set
        if run is None or patches is None:
            self.run_view.clear()
            return
        epochs = len(run.history) if run.settings is None else run.settings.epochs
        self.run_view.show_run(run.history, epochs, patches.classes)

    def _finished(self, model: object) -> None:
        self.state.set(**{self.produces: self._target})

    def _ended(self) -> None:
        self._lock(False)
        self._suggest_out()
        self.inputs_changed()

    def _lock(self, running: bool) -> None:
        """Keep what a run was started with in view, unchanged, until it ends."""
        for widget in self.choices():
            widget.setEnabled(not running)
        self.device.setVisible(not running)  # the run says it, too

    # -- device and end ---------------------------------------------------------------

    def on_shown(self) -> None:
        """Find the device; the first time that takes the seconds in which torch is loaded."""
        self._shown = True
        self._find_device()

    def _find_device(self) -> None:
        """Ask which device computes, and how, unless that is known or on its way."""
        try:
            wanted = preferences().device, self.settings().precision
        except SettingsError:
            return
        if not self._shown or self._closed or self._device.running or wanted == self._asked:
            return
        self._asked = wanted
        self._device.start("Device", lambda cancel: device_job(*wanted, cancel), lane="device")

    def _device_known(self, text: str) -> None:
        _show(self.device, f"Computes on {text}")

    def on_close(self) -> None:
        """Stop all jobs; a run keeps its finished epochs."""
        for runner in (self.job.runner, self._loader, self._device):
            runner.cancel()
        self._looker.stop()
        self.state.changed.disconnect(self.state_changed)
        self.run_view.disconnect_viewer()


def _described(patches: PatchSet) -> str:
    """Return "120 patches, 104 to train on: tumour, stroma, normal"."""
    n, train = len(patches), patches.split.count("train")
    count = f"{n} patches" if train == n else f"{n} patches, {train} to train on"
    return f"{count}: {', '.join(patches.classes.names)}"


def _show(label: QLabel, text: str) -> None:
    """Show `text`, or nothing where it is empty."""
    label.setText(text)
    label.setVisible(bool(text))


def _small_label() -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)  # names of classes may look like tags
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    label.setVisible(False)
    return label
