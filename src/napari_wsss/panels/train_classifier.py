"""Dock panel: train the classifier on patch labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.pretrain_box import PretrainBox
from napari_wsss.panels.support.curves import Scores
from napari_wsss.panels.support.fold import folding
from napari_wsss.panels.support.training import TrainingPanel
from napari_wsss.patches import PatchSet
from napari_wsss.settings import ClassifierSettings

if TYPE_CHECKING:
    from napari_wsss.models import Classifier
    from napari_wsss.training import PretrainedEncoder

__all__ = ["TrainClassifierPanel"]


class TrainClassifierPanel(TrainingPanel):
    """Trains the classifier whose maps become pseudo masks."""

    title = "Train classifier"
    order = 3
    produces = "classifier"
    settings_model = ClassifierSettings
    simple = ("encoder.name", "depths", "epochs", "steps_per_epoch", "batch_size")
    scores = Scores({"map": "mAP", "exact_match": "exact match"}, "ap ", "average precision")
    purpose = "Trains a network to name the tissues in a patch, from your labels alone."
    next_step = "Trained. Next: see in CAMs where the network finds each tissue."

    def _build(self) -> None:
        super()._build()
        group, layout = folding("Pretrain on my slides", folded=True)
        self.pretraining = PretrainBox(self.viewer, lambda: self.settings().encoder)
        layout.addWidget(self.pretraining)
        self.body.insertWidget(self.body.indexOf(self.form) + 1, group)

    def _connect(self) -> None:
        super()._connect()
        self.form.changed.connect(self.pretraining.inputs_changed)
        self.pretraining.made.connect(self._pretrained)

    def state_changed(self, name: str) -> None:
        """Take over what another panel made."""
        super().state_changed(name)
        if name == "folder":
            self.pretraining.suggest(self.state.folder)

    def _show_data(self) -> None:
        super()._show_data()
        patches = self.patch_set
        self.pretraining.set_patches(patches)
        self.pretraining.suggest(self.state.folder or (patches.root if patches else None))

    def _pretrained(self, done: PretrainedEncoder) -> None:
        """Let the classifier begin from the new weights, unless it is being trained."""
        if self.job.runner.running:
            return
        settings = self.settings()
        self.form.set_settings(settings.changed(encoder=done.encoder(settings.encoder)))
        self.inputs_changed()

    def on_close(self) -> None:
        """Stop all jobs; a run keeps its finished epochs."""
        self.pretraining.close_box()
        super().on_close()

    def training(self) -> ClassifierTraining:
        """Return the training; nothing is needed besides the data set."""
        return ClassifierTraining()


class ClassifierTraining:
    """The training as the panel runs it, in a thread."""

    def check(self, patches: PatchSet, settings: ClassifierSettings) -> None:
        """Accept any data set."""

    def mark(self, patches: PatchSet, settings: ClassifierSettings) -> str:
        """Return the fingerprint of the run."""
        from napari_wsss.training.classifier import classifier_mark

        return classifier_mark(patches, settings)

    def job(
        self,
        patches: PatchSet,
        out: Path,
        settings: ClassifierSettings,
        *,
        device: str,
        overwrite: bool,
        cancel: CancelToken,
    ) -> Job[Classifier]:
        """Return the job."""
        from napari_wsss.training import classifier_job

        return classifier_job(
            patches, out, settings, device=device, overwrite=overwrite, cancel=cancel
        )
