"""Cutting a data set from images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.classes import ClassTable
from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.dataset_classes import ClassEditor
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.work import JobRunner
from napari_wsss.patches import CutRules, cut_patches_job
from napari_wsss.patches.mask_values import classes_of_values, mask_values_job

if TYPE_CHECKING:
    from napari_wsss.patches import PatchSet

__all__ = ["CutForm"]


class CutForm(QWidget):
    """Folders, classes and sizes; the masks give the labels of the patches.

    Attributes
    ----------
    made
        Signal with the new `PatchSet`.
    """

    made = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._suggested: Path | None = None
        self.images = PathField("folder", "Folder of images")
        self.masks = PathField("folder", "Folder of masks")
        self.classes = PathField("open", "classes.toml (if there is one)", "Classes (*.toml)")
        self.out = PathField("folder", "New folder for the patches")
        self.size_px = _whole(8, 8192, 112, "Side of a patch; small ones hold single tissues")
        self.stride = _whole(1, 8192, 56, "Step from one patch to the next")
        self.share = _whole(0, 100, 5, "A class counts as present if it covers so much")
        self.share.setSuffix(" %")
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(0, 20)
        self.mpp.setDecimals(4)
        self.mpp.setSingleStep(0.1)
        self.mpp.setSpecialValueText("unknown")
        self.mpp.setToolTip("µm per pixel of the images: models can then be used on slides")
        self.replace = QCheckBox("Replace earlier patches there")
        self.find_values = QPushButton("Find the values in the masks")
        self.find_values.setToolTip("Lists the values that the masks hold, for you to name")
        self.editor = ClassEditor(choose=True)
        self.job = JobView("Cut patches")
        self._finder = JobRunner()
        self._lay_out()
        for field in (self.images, self.masks, self.classes, self.out):
            field.changed.connect(self._changed)
        self.replace.toggled.connect(self._changed)
        self.find_values.clicked.connect(self._find)
        self._finder.finished.connect(self._found)
        self._finder.failed.connect(self.job.show_error)
        self._finder.ended.connect(self._changed)
        self.job.requested.connect(self._cut)
        self.job.runner.finished.connect(self.made)
        self._changed()

    def _lay_out(self) -> None:
        hint = QLabel("Images and masks need the same file names.")
        hint.setWordWrap(True)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Images", self.images)
        form.addRow("Masks", self.masks)
        form.addRow("Classes", self.classes)
        form.addRow(self.find_values)
        form.addRow(self.editor)
        form.addRow("Size (px)", self.size_px)
        form.addRow("Step (px)", self.stride)
        form.addRow("Least share", self.share)
        form.addRow("µm/px", self.mpp)
        form.addRow("Patches to", self.out)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(hint)
        layout.addLayout(form)
        layout.addWidget(self.replace)
        layout.addWidget(self.job)

    def cancel(self) -> None:
        """Stop what runs."""
        self.job.runner.cancel()
        self._finder.cancel()

    def suggest(self, folder: Path) -> None:
        """Offer a place for the patches, unless the user chose one."""
        if self.out.path in (None, self._suggested):
            self._suggested = folder / "patches"
            self.out.path = self._suggested

    # -- what is missing ----------------------------------------------------------------

    def _changed(self, _: object = None) -> None:
        if self.images.path is not None and self.images.path.is_dir():
            self.suggest(self.images.path.parent)
        self.find_values.setEnabled(self.masks.path is not None and not self._finder.running)
        self.find_values.setVisible(self.classes.path is None)
        self.editor.setVisible(self.classes.path is None)
        self.job.set_ready(self._missing())

    def _missing(self) -> str | None:
        if self._finder.running:
            return "Reading the masks …"
        for field, name in ((self.images, "images"), (self.masks, "masks")):
            if field.path is None:
                return f"Choose the folder of {name}."
            if not field.path.is_dir():
                return f"There is no folder {field.path}."
        if self.classes.path is None and not self.editor.filled:
            return "Choose a classes.toml, or let the values in the masks be found."
        out = self.out.path
        if out is None:
            return "Choose where the patches shall go."
        if out.exists() and not self.replace.isChecked() and any(out.iterdir()):
            return f"{out} is not empty. Choose another folder, or tick 'Replace earlier'."
        return None

    def _find(self) -> None:
        folder = self.masks.path
        if folder is None or self._finder.running:
            return
        self.job.clear()
        self._finder.start(
            "Find values", lambda cancel: mask_values_job(folder, cancel=cancel), lane="look"
        )
        self._changed()

    def _found(self, values: dict[int, int]) -> None:
        try:
            self.editor.set_classes(classes_of_values(values))
        except WsssError as error:
            self.job.show_error(error)

    # -- cutting ------------------------------------------------------------------------

    def _cut(self) -> None:
        images, masks, out = self.images.path, self.masks.path, self.out.path
        if images is None or masks is None or out is None:
            return
        try:
            path = self.classes.path
            classes = self.editor.classes() if path is None else ClassTable.read(path)
        except WsssError as error:
            self.job.show_error(error)
            return
        rules = CutRules(
            size_px=self.size_px.value(),
            stride_px=self.stride.value(),
            min_share=self.share.value() / 100,
            mpp=self.mpp.value() or None,
        )
        overwrite = self.replace.isChecked()

        def make(cancel: CancelToken) -> Job[PatchSet]:
            return cut_patches_job(
                images, masks, classes, out, rules, overwrite=overwrite, cancel=cancel
            )

        self.job.run("Cut patches", make, lane="cut")


def _whole(low: int, high: int, value: int, tip: str) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setValue(value)
    box.setToolTip(tip)
    return box
