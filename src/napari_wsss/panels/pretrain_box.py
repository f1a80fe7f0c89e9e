"""The part of the Train classifier panel that pretrains the encoder on slides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.errors import OutputError, SettingsError
from napari_wsss.jobs import CancelToken, EpochEnd, Event, Job
from napari_wsss.panels.pretrain_work import pretrain_beside
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.forms import SettingsForm
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.later import soon
from napari_wsss.panels.support.layer_slide import layer_mpp, may_be_slide, slide_of, slide_problem
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.settings import EncoderSettings, PretrainSettings

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_wsss.patches import PatchSet
    from napari_wsss.training import PretrainedEncoder

__all__ = ["PretrainBox"]

_PURPOSE = (
    "Optional: shows the encoder your own tissue before it learns your labels. With few slides "
    "it does not pay; takes minutes to hours."
)
_DATA_SET = "Patches of the data set"
_VISIBLE_ROWS = 4


class PretrainBox(QWidget):
    """Chooses slides, pretrains, and tells where the weights are.

    Parameters
    ----------
    viewer
        Whose layers are offered.
    encoder
        Returns the encoder that the classifier begins from now; SettingsError if its form
        does not fit.

    Attributes
    ----------
    made
        Signal with the `PretrainedEncoder`.
    """

    made = Signal(object)

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        encoder: Callable[[], EncoderSettings],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._encoder = viewer, encoder
        self._patches: PatchSet | None = None
        self._suggested: Path | None = None
        # What the classifier began from before it took the weights that were made here.
        self._begun: EncoderSettings | None = None
        self._build()
        for emitter in self._emitters():
            emitter.connect(self._refresh)
        self.sources.itemChanged.connect(self._update)
        self.folder.changed.connect(self._update)
        self.out.changed.connect(self._update)
        self.form.changed.connect(self._update)
        self.job.requested.connect(self.start)
        self.job.runner.started.connect(self._lock)
        self.job.runner.event.connect(self._event)
        self.job.runner.finished.connect(self._finished)
        self.job.runner.failed.connect(self._failed)
        self.job.runner.ended.connect(self._lock)
        self._refresh()

    def _build(self) -> None:
        purpose = QLabel(_PURPOSE)
        purpose.setWordWrap(True)
        self.sources = QListWidget()
        self.sources.setToolTip("<p>Open slides are listed here. Tick those to learn from.</p>")
        self.sources.setAccessibleName("Slides to learn from")
        self.sources.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.sources.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.sources.setSpacing(1)
        self.folder = PathField("folder", "More: folder of slides or images")
        self.form = SettingsForm(
            PretrainSettings,
            ("method", "tile_mpp", "epochs", "batch_size"),
            hidden=("encoder.name", "encoder.weights"),
        )
        self.out = PathField("save", "File to write", "Weights (*.safetensors)")
        self.job = JobView("Pretrain")
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setVisible(False)
        below = QFormLayout()
        below.setContentsMargins(0, 0, 0, 0)
        below.addRow("Weights file", self.out)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (purpose, self.sources, self.folder, self.form):
            layout.addWidget(widget)
        layout.addLayout(below)
        layout.addWidget(self.job)
        layout.addWidget(self.result)

    # -- for the panel ------------------------------------------------------------------

    def set_patches(self, patches: PatchSet | None) -> None:
        """Offer the patches of the data set."""
        self._patches = patches
        if patches is not None and patches.mpp is not None and not self.job.runner.running:
            # Things shall be as large as phase 1 will see them.
            self._set_form(tile_mpp=patches.mpp)
        self._refresh()

    def suggest(self, folder: Path | None) -> None:
        """Offer a place for the weights, unless the user chose one."""
        free = self.out.path in (None, self._suggested) and not self.job.runner.running
        if folder is not None and free:
            self._suggested = folder / "encoder.safetensors"
            self.out.path = self._suggested

    def close_box(self) -> None:
        """Stop what runs, which keeps its finished epochs, and follow the viewer no more."""
        self.job.runner.cancel()
        for emitter in self._emitters():
            emitter.disconnect(self._refresh)

    # -- what is chosen -----------------------------------------------------------------

    def chosen(self) -> list[Layer | str]:
        """Return the ticked layers, and `_DATA_SET` where that is ticked."""
        items = [self.sources.item(i) for i in range(self.sources.count())]
        return [
            item.data(Qt.ItemDataRole.UserRole)
            for item in items
            if item is not None and item.checkState() == Qt.CheckState.Checked
        ]

    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.renamed

    def _refresh(self, _: object = None) -> None:
        if not self.job.runner.running:  # its end lists them, too
            self._list()
            self._update()

    def _list(self) -> None:
        """List data set and layers anew; what was ticked stays so, new ones are ticked."""
        before = [self.sources.item(i) for i in range(self.sources.count())]
        known = {
            id(item.data(Qt.ItemDataRole.UserRole)): item.checkState() for item in before if item
        }
        entries: list[tuple[Layer | str, str]] = []
        if self._patches is not None:
            entries.append((_DATA_SET, f"{_DATA_SET} ({len(self._patches)})"))
        layers = [layer for layer in reversed(self._viewer.layers) if may_be_slide(layer)]
        entries += [(layer, layer.name) for layer in layers if slide_problem(layer) is None]
        self.sources.blockSignals(True)
        self.sources.clear()
        for entry, text in entries:
            item = QListWidgetItem(text)
            item.setToolTip(text)
            item.setData(Qt.ItemDataRole.UserRole, entry)
            item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsUserCheckable)
            item.setCheckState(known.get(id(entry), Qt.CheckState.Checked))
            self.sources.addItem(item)
        self.sources.blockSignals(False)
        self.sources.setVisible(bool(entries))
        rows = min(max(len(entries), 1), _VISIBLE_ROWS)
        self.sources.setFixedHeight(rows * max(self.sources.sizeHintForRow(0) + 2, 20) + 6)

    def inputs_changed(self) -> None:
        """Look at the inputs anew; called when the form of the classifier changed."""
        self._update()

    def _update(self, _: object = None) -> None:
        if not self.job.runner.running:
            self.job.set_ready(self._missing())

    def _missing(self) -> str | None:
        """Return what keeps pretraining from being begun; None if nothing does."""
        if not self.chosen() and self.folder.path is None:
            return "Open a slide and tick it, or name a folder of slides or images."
        if self.folder.path is not None and not self.folder.path.exists():
            return f"There is no folder {self.folder.path}."
        try:
            settings = self.settings()
        except SettingsError:
            return "Correct the settings above."
        unknown = [
            entry.name
            for entry in self.chosen()
            if not isinstance(entry, str) and layer_mpp(entry) is None
        ]
        if unknown and settings.tile_mpp != "auto":
            return (
                f"{unknown[0]} does not say how many µm a pixel measures. Untick it, or set "
                "Tile (µm/px) to auto."
            )
        if self.out.path is None:
            return "Name the file to write."
        return None

    def settings(self) -> PretrainSettings:
        """Return what the form says, with the encoder that the classifier begins from.

        Raises
        ------
        SettingsError
            If a value of either does not fit.
        """
        settings = self.form.settings()
        assert isinstance(settings, PretrainSettings)
        begun = self._encoder()
        if self._begun is not None and begun.weights == str(self.out.path):
            begun = self._begun  # not from what is going to be written
        encoder = settings.encoder.changed(name=begun.name, weights=begun.weights)
        return settings.changed(encoder=encoder.model_dump())

    def _set_form(self, **values: Any) -> None:
        try:
            self.form.set_settings(self.form.settings().changed(**values))
        except SettingsError:
            return  # the form says what does not fit

    # -- pretraining --------------------------------------------------------------------

    def start(self) -> None:
        """Pretrain, after asking about what would be replaced."""
        out = self.out.path
        if out is None or self._missing() is not None:
            return
        overwrite = False
        if out.exists():
            if not self.ask(f"{out.name} exists. Replace it when the new weights are ready?"):
                return
            overwrite = True
        self._run(overwrite)

    def _run(self, overwrite: bool) -> None:
        out, settings, device = self.out.path, self.settings(), preferences().device
        assert out is not None
        self._begun = EncoderSettings(name=settings.encoder.name, weights=settings.encoder.weights)
        chosen, folder, patches = self.chosen(), self.folder.path, self._patches

        def make(cancel: CancelToken) -> Job[PretrainedEncoder]:
            slides = [slide_of(entry) for entry in chosen if not isinstance(entry, str)]
            others: list[PatchSet | Path] = [] if folder is None else [folder]
            if _DATA_SET in chosen and patches is not None:
                others.append(patches)
            return pretrain_beside(
                slides, others, out, settings, device=device, overwrite=overwrite, cancel=cancel
            )

        self.result.setVisible(False)
        self.job.run("Pretrain", make)

    def _failed(self, error: BaseException) -> None:
        """Offer to begin anew where an unfinished run is of other tiles or settings."""
        out = self.out.path
        if isinstance(error, OutputError) and out is not None and not out.exists():
            question = (
                f"{out.name} belongs to an unfinished run with other slides or settings. "
                "Discard that run and begin anew?"
            )
            # Once the failed job is over.
            soon(self, lambda: self._run(True) if self.ask(question) else None)

    def ask(self, question: str) -> bool:
        """Ask the user; a method of its own, so that it can be answered by others."""
        answer = QMessageBox.question(self, "Pretrain on my slides", question)
        return answer == QMessageBox.StandardButton.Yes

    def _event(self, event: Event) -> None:
        if isinstance(event, EpochEnd):
            self._say(
                f"Epoch {event.epoch} of {event.epochs}: {event.metrics['match']:.0%} of the "
                "views are matched with their own tile."
            )

    def _finished(self, done: PretrainedEncoder) -> None:
        self._say(f"Done. The classifier above begins from {done.path.name}.")
        self.made.emit(done)

    def _say(self, text: str) -> None:
        self.result.setText(text)
        self.result.setVisible(True)

    def _lock(self) -> None:
        running = self.job.runner.running
        for widget in (self.sources, self.folder, self.form, self.out):
            widget.setEnabled(not running)
        if not running:
            self._list()  # what is said of the run stays
