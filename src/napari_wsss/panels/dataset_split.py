"""Splitting a data set into training, validation and test patches."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.panels.support.work import JobRunner
from napari_wsss.patches import PatchSet
from napari_wsss.patches.editing import with_splits

__all__ = ["SplitForm"]


class SplitForm(QWidget):
    """Shares and seed; whole images (slides, patients) go to one split.

    Attributes
    ----------
    changed
        Signal with the set, split anew.
    """

    changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._patches: PatchSet | None = None
        hint = QLabel("Whole images are held out, never single patches of one.")
        hint.setWordWrap(True)
        self.val, self.test, self.seed = QSpinBox(), QSpinBox(), QSpinBox()
        for box, value in ((self.val, 15), (self.test, 0)):
            box.setRange(0, 90)
            box.setSuffix(" %")
            box.setValue(value)
        self.val.setToolTip("Patches that judge a model while it is trained")
        self.test.setToolTip("Patches that no training sees, to measure the model in the end")
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("Another number gives another split; the same gives the same")
        self.button = QPushButton("Split")
        self.button.clicked.connect(self._split)
        self.runner = JobRunner()
        self.runner.finished.connect(self._done)
        self.runner.failed.connect(self._failed)
        self.runner.ended.connect(self._update)
        self.message = QLabel()
        self.message.setWordWrap(True)
        self.message.setVisible(False)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Validation", self.val)
        form.addRow("Test", self.test)
        form.addRow("Seed", self.seed)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(hint)
        layout.addLayout(form)
        layout.addWidget(self.button)
        layout.addWidget(self.message)
        self.show_set(None)

    def show_set(self, patches: PatchSet | None) -> None:
        """Take over the set to be split."""
        self._patches = patches
        self._update()
        self.say("")

    def say(self, text: str) -> None:
        """Show a line below the button."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _update(self) -> None:
        self.button.setEnabled(self._patches is not None and not self.runner.running)

    def _split(self) -> None:
        patches = self._patches
        if patches is None or self.runner.running:
            return
        val, test, seed = self.val.value() / 100, self.test.value() / 100, self.seed.value()

        def make(_: CancelToken) -> Job[tuple[PatchSet, PatchSet]]:
            # Many groups are tried in many orders, which takes longer than a click may.
            yield Progress("split", 0, 1)
            return patches, with_splits(patches, val, test, seed)

        self.say("Splitting …")
        self.runner.start("Split", make, lane="look")
        self._update()

    def _done(self, found: tuple[PatchSet, PatchSet]) -> None:
        before, after = found
        if before is self._patches:  # no other set was loaded meanwhile
            self.changed.emit(after)

    def _failed(self, error: Exception) -> None:
        # The function speaks of its arguments; the reason is what counts here.
        self.say(str(error).replace("Hold out nothing (validation_share = 0)", "Take 0 %"))
