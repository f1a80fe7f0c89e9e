"""Dock panel: train the segmentation network on pseudo masks or on true masks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QWidget

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.curves import Scores
from napari_wsss.panels.support.training import TrainingPanel
from napari_wsss.patches import PatchSet
from napari_wsss.settings import SegmenterSettings

if TYPE_CHECKING:
    from napari_wsss.cams import PseudoMasks
    from napari_wsss.models import Segmenter
    from napari_wsss.training.targets import Targets, TrueMasks

__all__ = ["TrainSegmenterPanel"]

_PSEUDO, _TRUE = "pseudo masks", "true masks"
_FOLDER = "Folder of masks"


class TrainSegmenterPanel(TrainingPanel):
    """Trains the network that segments slides."""

    title = "Train segmenter"
    order = 5
    produces = "segmenter"
    settings_model = SegmenterSettings
    simple = ("encoder.name", "decoder", "epochs", "steps_per_epoch", "batch_size")
    scores = Scores(
        {"target_miou": "mean IoU", "target_accuracy": "accuracy"}, "target_iou ", "IoU"
    )
    purpose = "Trains the network that segments slides, from masks of the patches."
    next_step = "Trained. Next: let it segment a slide in Segment slide."

    def add_inputs(self) -> None:
        """Add the choice of masks."""
        self.source = QComboBox()
        self.source.addItems([_PSEUDO, _TRUE])
        self.source.setToolTip(
            "<p>Pseudo masks come from your patch labels; true masks, drawn by hand, give the "
            "fully supervised network to compare with.</p>"
        )
        self.pseudo = PathField("folder", "Folder of pseudo masks")
        self.masks = PathField("folder", _FOLDER)
        self.corrections = PathField("folder", "Corrected regions (optional)")
        self.corrections.setToolTip(
            "<p>Regions that were corrected in a result join the data set with true masks.</p>"
        )
        self.tiles = PathField("folder", "Tiles without labels (optional)")
        self.tiles.setToolTip(
            "<p>Images of the patches' size and µm/px that nobody labelled. The network's own "
            "average labels them while it learns, where it is certain.</p>"
        )
        self.inputs.addRow("Learn from", self.source)
        for field in (self.pseudo, self.masks, self.corrections, self.tiles):
            self.inputs.addRow(field)
            field.changed.connect(self.inputs_changed)
        self.pseudo.path = self.state.pseudo_masks
        self.corrections.path = self.state.corrections
        self.masks.setVisible(False)
        self.run_view.target = _PSEUDO.removesuffix("s")
        self.source.currentTextChanged.connect(self._source_changed)

    def missing(self) -> str | None:
        """Say which masks are missing."""
        if self.source.currentText() == _PSEUDO:
            if self.pseudo.path is None:
                return "Make pseudo masks first in CAMs, or name their folder above."
            return None
        patches = self.patch_set
        if self.masks.path is None and patches is not None and patches.masks is None:
            return "The data set has no masks: name their folder, or learn from pseudo masks."
        return None

    def training(self) -> SegmenterTraining:
        """Return the training with the masks that are chosen."""
        weak = self.source.currentText() == _PSEUDO
        return SegmenterTraining(
            pseudo=self.pseudo.path if weak else None,
            masks=None if weak else self.masks.path,
            corrections=self.corrections.path,
            tiles=self.tiles.path,
        )

    def choices(self) -> tuple[QWidget, ...]:
        """Return the widgets that stay as they are while a training runs."""
        fields = (self.pseudo, self.masks, self.corrections, self.tiles)
        return (*super().choices(), self.source, *fields)

    def state_changed(self, name: str) -> None:
        """Take pseudo masks that were made in another panel."""
        super().state_changed(name)
        if name == "pseudo_masks":
            self.pseudo.path = self.state.pseudo_masks
        elif name == "corrections":
            self.corrections.path = self.state.corrections

    def _show_data(self) -> None:
        super()._show_data()
        own = self.patch_set is not None and self.patch_set.masks is not None
        self.masks.line.setPlaceholderText("Masks of the data set" if own else _FOLDER)

    def _source_changed(self, source: str) -> None:
        self.pseudo.setVisible(source == _PSEUDO)
        self.masks.setVisible(source == _TRUE)
        self.run_view.target = source.removesuffix("s")
        self.inputs_changed()


@dataclass(frozen=True)
class SegmenterTraining:
    """The training as the panel runs it, in a thread.

    Attributes
    ----------
    pseudo
        Folder of pseudo masks; None for true masks.
    masks
        Folder of true masks; None for those of the data set.
    corrections
        Folder of corrected regions that join the set; None for none.
    tiles
        Folder of tiles without labels; None for none.
    """

    pseudo: Path | None = None
    masks: Path | None = None
    corrections: Path | None = None
    tiles: Path | None = None

    def targets(self, patches: PatchSet) -> PseudoMasks | TrueMasks:
        """Open the masks; DataError if they are missing."""
        from napari_wsss.cams import PseudoMasks
        from napari_wsss.training.targets import TrueMasks

        if self.pseudo is not None:
            return PseudoMasks(self.pseudo)
        return TrueMasks(patches, self.masks)

    def together(self, patches: PatchSet) -> tuple[PatchSet, Targets]:
        """Return patches and masks with the corrections; DataError if these do not fit."""
        from napari_wsss.training import read_corrections, with_corrections

        targets = self.targets(patches)
        if self.corrections is None:
            return patches, targets
        return with_corrections(patches, targets, read_corrections(self.corrections))

    def check(self, patches: PatchSet, settings: SegmenterSettings) -> None:
        """Raise DataError if the masks do not belong to the patches or the settings."""
        from napari_wsss.training.segmenter import check_targets
        from napari_wsss.training.unlabelled import check_unlabelled

        check_targets(patches, self.targets(patches), settings)
        self.together(patches)
        check_unlabelled(self.unlabelled(patches), settings)

    def unlabelled(self, patches: PatchSet) -> PatchSet | None:
        """Return the tiles without labels; DataError if there are none in their folder."""
        from napari_wsss.training.unlabelled import read_unlabelled

        return None if self.tiles is None else read_unlabelled(self.tiles, patches)

    def mark(self, patches: PatchSet, settings: SegmenterSettings) -> str:
        """Return the fingerprint of the run."""
        from napari_wsss.training.segmenter import segmenter_mark

        return segmenter_mark(*self.together(patches), settings, self.unlabelled(patches))

    def job(
        self,
        patches: PatchSet,
        out: Path,
        settings: SegmenterSettings,
        *,
        device: str,
        overwrite: bool,
        cancel: CancelToken,
    ) -> Job[Segmenter]:
        """Return the job."""
        from napari_wsss.training import read_corrections, segmenter_job

        corrections = None if self.corrections is None else read_corrections(self.corrections)
        return segmenter_job(
            patches,
            self.targets(patches),
            out,
            settings,
            device=device,
            overwrite=overwrite,
            cancel=cancel,
            corrections=corrections,
            unlabelled=self.unlabelled(patches),
        )
