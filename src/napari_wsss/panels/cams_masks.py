"""Pseudo masks of the whole data set: settings, folder, progress, and how good they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_wsss.panels.cams_table import NumberTable
from napari_wsss.panels.cams_words import depth_name
from napari_wsss.panels.cams_work import How, masks_job, quality_job
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.forms import SettingsForm
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.settings import PseudoMaskSettings

if TYPE_CHECKING:
    from napari_wsss.patches import PatchSet

__all__ = ["MasksBox", "same_patches"]


class MasksBox(QWidget):
    """Makes the pseudo masks of a data set and measures them where masks exist.

    Attributes
    ----------
    made
        Signal with the folder of finished pseudo masks, and the data set they are of.
    settings_changed
        Signal: how maps are made was changed.
    """

    made = Signal(object, object)
    settings_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self._patches: PatchSet | None = None
        self._making: PatchSet | None = None
        self._classifier: Path | None = None
        self._threshold: Callable[[], float] = lambda: 0.0
        self._suggested: Path | None = None
        self._problem: str | None = None
        # The threshold has its slider; size and precision of a pass are nothing to look for.
        self.form = SettingsForm(
            PseudoMaskSettings, ["method", "flips", "glass"], hidden=["threshold"]
        )
        self.folder = PathField("folder", "Folder for the pseudo masks")
        self.work = JobView("Make pseudo masks")
        self.measuring = JobView("Measure against the masks")
        self.table = NumberTable(["depth", "mIoU, several classes", "all"])
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (
            self.form, self.folder, self.work, self.measuring, self.table, self.note,
        ):  # fmt: skip
            layout.addWidget(widget)
        self.form.changed.connect(self.settings_changed)
        self.folder.changed.connect(self._update)
        self.work.requested.connect(self._make)
        self.work.runner.finished.connect(self._made)
        self.measuring.requested.connect(self._measure)
        self.measuring.runner.finished.connect(self._measured)
        self._clear_quality()

    def settings(self) -> PseudoMaskSettings:
        """Return the settings with the slider's threshold; SettingsError if a field is off."""
        settings = cast(PseudoMaskSettings, self.form.settings())
        return settings.changed(threshold=round(self._threshold(), 2))

    def follow_threshold(self, threshold: Callable[[], float]) -> None:
        """Take the threshold from where the user sets it."""
        self._threshold = threshold

    def set_inputs(
        self,
        patches: PatchSet | None,
        classifier: Path | None,
        problem: str | None,
        folder: Path | None,
    ) -> None:
        """Take over what the pseudo masks are made from.

        Parameters
        ----------
        patches, classifier
            The data set and the checkpoint.
        problem
            What is missing, in words for the user; None if nothing is.
        folder
            Where the user works.
        """
        if patches is not self._patches:
            self._clear_quality()
        self._patches, self._classifier, self._problem = patches, classifier, problem
        if patches is not None:
            suggestion = _suggestion(patches, folder)
            if self.folder.path in (None, self._suggested):
                self.folder.path = suggestion
            self._suggested = suggestion
        self._update()

    def cancel(self) -> None:
        """Ask what runs to stop."""
        self.work.runner.cancel()
        self.measuring.runner.cancel()

    # -- making -----------------------------------------------------------------------

    def _update(self, _: object = None) -> None:
        folder = self.folder.path
        problem = self._problem
        if problem is None and folder is None:
            problem = "Choose a folder for the pseudo masks."
        self.work.set_ready(problem)
        with_masks = self._patches is not None and any(self._patches.masks or ())
        there = folder is not None and (folder / "pseudo_masks.json").is_file()
        self.measuring.setVisible(with_masks)
        self.measuring.set_ready(None if there else "Make the pseudo masks first.")

    def _make(self) -> None:
        patches, classifier, out = self._patches, self._classifier, self.folder.path
        if patches is None or classifier is None or out is None:
            return
        how = How(classifier, self.settings(), preferences().device)
        self._clear_quality()
        self._making = patches
        self.work.run("Pseudo masks", lambda cancel: masks_job(how, patches, out, cancel))

    def _made(self, folder: Path) -> None:
        self.work.say(f"Finished: {folder.name}. Next: train a segmenter from these pseudo masks.")
        self._update()
        self.made.emit(folder, self._making)

    # -- measuring --------------------------------------------------------------------

    def _measure(self) -> None:
        patches, folder = self._patches, self.folder.path
        if patches is None or folder is None:
            return

        self.measuring.run(
            "Quality of pseudo masks",
            lambda cancel: quality_job(folder, patches, cancel),
            lane="measure",
        )

    def _measured(self, quality: dict[str, Any]) -> None:
        rows = quality["depths"]
        self.table.setRowCount(len(rows))
        for d, row in enumerate(rows):
            texts = (
                depth_name(d, len(rows)), f"{row['miou_multi_label']:.3f}", f"{row['miou']:.3f}",
            )  # fmt: skip
            for column, text in enumerate(texts):
                self.table.put(d, column, text)
        self.table.fit()
        agreeing = quality["agreeing"]
        certain = "all depths agree" if len(rows) > 1 else "the mask is wholly certain"
        self.note.setText(
            f"{quality['multi_label_patches']} of {quality['patches']} patches have several "
            f"classes. Where {certain} ({agreeing['share']:.0%}): {agreeing['miou']:.3f}. "
            f"Pixels with a class: {quality['kept_share']:.0%}. For your information: choosing "
            "settings by these numbers would use the masks that training must not see."
        )
        self.table.setVisible(True)
        self.note.setVisible(True)

    def _clear_quality(self) -> None:
        self.table.setVisible(False)
        self.note.setVisible(False)


def _suggestion(patches: PatchSet, folder: Path | None) -> Path:
    """Return a folder in the user's, or beside the data set."""
    name = f"{patches.root.name}-pseudo-masks"
    return (folder or patches.root.parent) / name


def same_patches(one: PatchSet | None, other: PatchSet | None) -> bool:
    """Whether masks of one set are those of the other: the same patches with the same labels.

    A set is another object as soon as its colours or splits are edited.
    """
    if one is None or other is None:
        return False
    return one is other or (
        (one.root, one.names, one.classes.names) == (other.root, other.names, other.classes.names)
        and bool((one.labels == other.labels).all())
    )
