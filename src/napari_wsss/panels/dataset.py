"""Dock panel: choose a data set of labelled patches, look it over, and prepare it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
)

from napari_wsss.errors import DataError, WsssError
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.panels.dataset_classes import ClassEditor
from napari_wsss.panels.dataset_cut import CutForm
from napari_wsss.panels.dataset_doubts import LabelCheck
from napari_wsss.panels.dataset_gallery import Gallery
from napari_wsss.panels.dataset_report import ReportView
from napari_wsss.panels.dataset_split import SplitForm
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.fold import folding
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.panel import Panel
from napari_wsss.patches import PatchReport, PatchSet, load_patches, report_job
from napari_wsss.patches.editing import keep_edits, with_classes
from napari_wsss.patches.loading import FORMATS

if TYPE_CHECKING:
    import napari

__all__ = ["DatasetPanel"]

#: Larger sets are checked file by file when the user asks for it.
_CHECKED_AT_ONCE = 3000
_AUTOMATIC = "automatic"


class DatasetPanel(Panel):
    """Loads a data set and hands it to the other panels; follows the set that they make."""

    title = "Data set"
    order = 1

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self._request: _Request | None = None
        self._source: Path | None = None  # folder or table of the set that is shown
        self._own: PatchSet | None = None  # the last one that this panel handed on
        self._build()
        self.state.changed.connect(self._state_changed)
        self.path.changed.connect(self._path_chosen)
        self.load.requested.connect(self._begin_load)
        self.load.runner.finished.connect(self._loaded)
        self.load.runner.ended.connect(self._load_ended)
        self.check.requested.connect(self._begin_check)
        self.check.runner.finished.connect(self._checked)
        self.check.runner.ended.connect(self._check_ended)
        self.doubts.found.connect(self.report.add_problems)
        self._checking: PatchSet | None = None
        self.editor.edited.connect(self._class_edited)
        self.apply.clicked.connect(self._apply_classes)
        self.split.changed.connect(self._split_anew)
        self.cut.made.connect(self._cut_made)
        if self.state.folder is not None:
            self.cut.suggest(self.state.folder)
        self._show_set()

    def _build(self) -> None:
        self.path = PathField("folder", "Folder or table of labelled patches")
        table = QToolButton()
        table.setText("CSV")
        table.setToolTip("Choose a table (CSV, TSV or Parquet) …")
        table.clicked.connect(self._browse_table)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.path, 1)
        row.addWidget(table)
        self.body.addLayout(row)
        self._build_options()
        self.load = JobView("Load")
        self.body.addWidget(self.load)
        self.report = ReportView()
        self.check = JobView("Check all files")
        self.check.button.setToolTip("Opens every image: damaged files, duplicates, sizes")
        self.doubts = LabelCheck()
        self.gallery = Gallery(self.viewer)
        for widget in (self.report, self.check, self.doubts, self.gallery):
            self.body.addWidget(widget)
        self._classes_group, layout = folding("Names and colours", folded=True)
        self.editor = ClassEditor()
        self.apply = QPushButton("Apply")
        self.apply.setEnabled(False)
        self.kept = QLabel()
        self.kept.setWordWrap(True)
        layout.addWidget(self.editor)
        layout.addWidget(self.apply)
        layout.addWidget(self.kept)
        self._split_group, layout = folding("Validation and test", folded=True)
        self.split = SplitForm()
        layout.addWidget(self.split)
        self.body.addWidget(self._classes_group)
        self.body.addWidget(self._split_group)
        self.cut = CutForm()
        self.section("Cut patches from masks", folded=True).addWidget(self.cut)

    def _build_options(self) -> None:
        self.format = QComboBox()
        self.format.addItems([_AUTOMATIC, *FORMATS])
        self.format.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.format.setToolTip("What kind of set it is, where it could be several")
        self.mpp = QDoubleSpinBox()
        self.mpp.setRange(0, 20)
        self.mpp.setDecimals(4)
        self.mpp.setSingleStep(0.1)
        self.mpp.setSpecialValueText("as the set says")
        self.mpp.setToolTip("µm per pixel of the patches; a model needs it for slides")
        self.class_file = PathField("open", "classes.toml (as the set says)", "Classes (*.toml)")
        self.masks = PathField("folder", "Folder of true masks (none needed)")
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setVerticalSpacing(4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Kind", self.format)
        form.addRow("µm/px", self.mpp)
        form.addRow("Classes", self.class_file)
        form.addRow("Masks", self.masks)
        self.section("How it is read", folded=True).addLayout(form)

    def on_hidden(self) -> None:
        """Show the viewer's own layers again."""
        self.gallery.close_gallery()

    def on_close(self) -> None:
        """Stop what runs, and let go of viewer and state."""
        self.state.changed.disconnect(self._state_changed)
        self.load.runner.cancel()
        self.check.runner.cancel()
        self.doubts.job.runner.cancel()
        self.cut.cancel()
        self.split.runner.cancel()
        self.gallery.disconnect_viewer()

    # -- loading ------------------------------------------------------------------------

    def _browse_table(self) -> None:
        start = str(self.path.path or "")
        pattern = "Tables (*.csv *.tsv *.parquet)"
        found, _ = QFileDialog.getOpenFileName(self, "Table of labelled patches", start, pattern)
        if found:
            self.path.path = Path(found)

    def _path_chosen(self, path: Path | None) -> None:
        self.load.set_ready("Choose a folder or a table." if path is None else None)
        # Of what is being loaded, the last choice wins, also where it is what is shown still.
        if path is not None and (self._request is not None or path != self._source):
            self._begin_load()

    def _begin_load(self) -> None:
        """Load what the fields say; a load that is under way ends first."""
        if self.path.path is None:
            return
        self._request = _Request(
            self.path.path,
            None if self.format.currentText() == _AUTOMATIC else self.format.currentText(),
            self.mpp.value() or None,
            self.class_file.path,
            self.masks.path,
        )
        if self.load.runner.running:
            self.load.runner.cancel()
        else:
            self.load.run("Load patches", self._request.job, lane="load")

    def _loaded(self, found: tuple[_Request, PatchSet]) -> None:
        request, patches = found
        if request is self._request:
            self._request = None
            self._hand_on(patches, request.path)

    def _load_ended(self) -> None:
        wanted = self._request
        if wanted is None or wanted.begun:
            self._request = None
        else:
            self.load.run("Load patches", wanted.job, lane="load")

    def _hand_on(self, patches: PatchSet, source: Path | None) -> None:
        """Let the other panels have a set of a folder or table, as it is there or edited."""
        self._own, self._source = patches, source
        self.state.set(patch_set=patches)

    def _cut_made(self, patches: PatchSet) -> None:
        self._hand_on(patches, patches.root)
        self.cut.job.say(f"{len(patches)} patches were cut. They are the data set now.")

    # -- showing ------------------------------------------------------------------------

    def _state_changed(self, name: str) -> None:
        if name == "patch_set":
            self._show_set()
        elif name == "folder" and self.state.folder is not None:
            self.cut.suggest(self.state.folder)

    def _show_set(self) -> None:
        patches = self.state.patch_set
        if patches is not self._own:  # another panel made or loaded it
            self._own, self._source = None, None if patches is None else patches.root
        if self._source is not None and self._request is None:
            self.path.path = self._source
        self.load.set_ready(None if self.path.path is not None else "Choose a folder or a table.")
        self.report.show_set(patches)
        self.doubts.show_set(patches, usable=not self.report.unusable)
        self.gallery.show_set(patches)
        self.split.show_set(patches)
        self._show_classes()
        for widget in (self.check, self.gallery, self._classes_group, self._split_group):
            widget.setVisible(patches is not None)
        self._guide_on()
        self.check.clear()
        if self.check.runner.running:
            self.check.runner.cancel()  # its end begins the next
        elif patches is not None and len(patches) <= _CHECKED_AT_ONCE:
            self._begin_check()

    def _guide_on(self) -> None:
        patches = self.state.patch_set
        if patches is None:
            self.say(
                "Choose labelled patches, or drop their folder here. None yet? Label some on a "
                "slide in Label patches, or cut them from images with masks below."
            )
        elif self.report.unusable:
            self.say("This set cannot be trained on yet: mend what is marked below.")
        elif patches.mpp is None:
            self.say(
                "Loaded. Its µm/px are unknown: give them under 'How it is read' and load again, "
                "else models of it cannot be used on slides. Next: Train classifier."
            )
        else:
            self.say("Loaded. Next: Train classifier.")

    # -- checking the files ---------------------------------------------------------------

    def _begin_check(self) -> None:
        patches = self.state.patch_set
        if patches is None or self.check.runner.running:
            return
        self._checking = patches

        def make(cancel: CancelToken) -> Job[PatchReport]:
            return report_job(patches, cancel=cancel)

        self.check.run("Check the data set", make, lane="look")

    def _checked(self, report: PatchReport) -> None:
        if self._checking is self.state.patch_set:
            self.report.show_report(report)
            self._guide_on()
            self.check.setVisible(False)

    def _check_ended(self) -> None:
        patches = self.state.patch_set
        if self._checking is not patches and not self._closed:
            self.check.clear()
            if patches is not None and len(patches) <= _CHECKED_AT_ONCE:
                self._begin_check()

    # -- editing --------------------------------------------------------------------------

    def _show_classes(self) -> None:
        patches = self.state.patch_set
        self.editor.set_classes(None if patches is None else patches.classes)
        self.apply.setEnabled(False)
        self._say_kept("")

    def _class_edited(self) -> None:
        try:
            edited = self.editor.classes()
        except DataError as error:
            self.apply.setEnabled(False)
            self._say_kept(str(error))
            return
        patches = self.state.patch_set
        self.apply.setEnabled(patches is not None and edited != patches.classes)
        self._say_kept("")

    def _apply_classes(self) -> None:
        patches = self.state.patch_set
        if patches is None:
            return
        try:
            edited = with_classes(patches, self.editor.classes())
            self._hand_on(edited, self._source)
            self._say_kept(self._keep(edited))
        except WsssError as error:
            self._say_kept(str(error))

    def _split_anew(self, patches: PatchSet) -> None:
        self._hand_on(patches, self._source)
        counts = {name: patches.split.count(name) for name in ("train", "val", "test")}
        text = ", ".join(f"{name} {n}" for name, n in counts.items() if n)
        try:
            self.split.say(f"{text}. {self._keep(patches)}")
        except WsssError as error:
            self.split.say(f"{text}. {error}")

    @staticmethod
    def _keep(patches: PatchSet) -> str:
        """Save what was edited where that is possible; says where it is kept."""
        if keep_edits(patches):
            return "Saved with the set."
        return "Kept until napari is closed: files of this kind of set are never changed."

    def _say_kept(self, text: str) -> None:
        self.kept.setText(text)
        self.kept.setVisible(bool(text))


@dataclass
class _Request:
    """What is to be loaded, and how."""

    path: Path
    format: str | None
    mpp: float | None
    classes: Path | None
    masks: Path | None
    begun: bool = False

    def job(self, cancel: CancelToken) -> Job[tuple[_Request, PatchSet]]:
        """Yield progress; returns this request and the set."""
        self.begun = True
        yield Progress("load", 0, 1)
        patches = load_patches(
            self.path, format=self.format, mpp=self.mpp, classes=self.classes, masks=self.masks
        )
        cancel.raise_if_cancelled()
        return self, patches
