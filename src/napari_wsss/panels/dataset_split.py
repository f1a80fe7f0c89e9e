"""Splitting a data set into training, validation and test patches."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QSpinBox, QVBoxLayout, QWidget

from napari_wsss.errors import DataError
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
        self.val.setToolTip("Patches that choose the best epoch while a model is trained")
        self.test.setToolTip("Patches that no training sees, to measure the model in the end")
        self.seed.setRange(0, 2**31 - 1)
        self.seed.setToolTip("Another number gives another split; the same gives the same")
        self.button = QPushButton("Split")
        self.button.clicked.connect(self._split)
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
        self.button.setEnabled(patches is not None)
        self.say("")

    def say(self, text: str) -> None:
        """Show a line below the button."""
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _split(self) -> None:
        if self._patches is None:
            return
        shares = self.val.value() / 100, self.test.value() / 100
        try:
            split = with_splits(self._patches, *shares, self.seed.value())
        except DataError as error:
            # The function speaks of its arguments; the reason is what counts here.
            self.say(str(error).replace("Hold out nothing (validation_share = 0)", "Take 0 %"))
        else:
            self.changed.emit(split)
