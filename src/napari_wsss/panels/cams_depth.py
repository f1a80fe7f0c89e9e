"""Choosing the depth whose maps are made of a whole slide."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtGui import QStandardItemModel
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_wsss.models.depths import depth_count, has_head, has_joint_head
from napari_wsss.panels.cams_words import FUSED, JOINT, depth_name

if TYPE_CHECKING:
    from napari_wsss.models import ModelInfo

__all__ = ["DepthBox", "DepthChoice", "depth_choices"]

_WHY = (
    "The depths in grey cannot be mapped over a whole slide: this classifier has a class head at "
    "its deepest layer only, and their maps (Grad-CAM) need gradients, one patch at a time. Look "
    "at a region to see them, or train with deep supervision."
)


class DepthChoice(NamedTuple):
    """One entry: its name, the depth as `map_slide` takes it, and whether it can be had."""

    name: str
    depth: int | None
    possible: bool = True


def depth_choices(info: ModelInfo) -> list[DepthChoice]:
    """Return the depths of a classifier, shallow to deep, and what joins them."""
    count = depth_count(info)
    choices = [
        DepthChoice(depth_name(n - 1, count), n, has_head(info, n)) for n in range(1, count + 1)
    ]
    if has_joint_head(info):
        return [*choices, DepthChoice(JOINT, None)]
    if count > 1 and has_head(info, 1):
        return [*choices, DepthChoice(FUSED, None)]
    # The only head is what the classifier itself goes by.
    choices[-1] = choices[-1]._replace(depth=None)
    return choices if count == 1 else [*choices, DepthChoice(FUSED, None, possible=False)]


class DepthBox(QWidget):
    """Chooses a depth of the classifier, and says why some cannot be chosen.

    Attributes
    ----------
    changed
        Signal: the user chose another depth.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._choices: list[DepthChoice] = []
        self.box = QComboBox()
        self.box.setAccessibleName("Depth of the class maps")
        self.box.setToolTip(
            "<p>Whose map is made. Each depth has a folder of its own; maps that exist are shown "
            "at once. Shallow depths show fine structure, deep ones say more surely what it "
            "is.</p>"
        )
        self.note = QLabel(_WHY)
        self.note.setWordWrap(True)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Depth", self.box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(form)
        layout.addWidget(self.note)
        self.box.currentIndexChanged.connect(lambda _: self.changed.emit())
        self.set_info(None)

    @property
    def chosen(self) -> int | None:
        """The depth that is chosen, as `map_slide` takes it."""
        at = self.box.currentIndex()
        return self._choices[at].depth if at >= 0 else None

    @property
    def name(self) -> str:
        """What the chosen depth is called."""
        return self.box.currentText()

    def set_info(self, info: ModelInfo | None) -> None:
        """Offer the depths of a classifier; one that was chosen stays so if it can."""
        before = self.chosen
        self._choices = [] if info is None else depth_choices(info)
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItems([choice.name for choice in self._choices])
            items = self.box.model()
            assert isinstance(items, QStandardItemModel)
            for i, choice in enumerate(self._choices):
                item = items.item(i)
                if item is not None and not choice.possible:
                    item.setEnabled(False)
                    item.setToolTip(f"<p>{_WHY}</p>")
            able = {c.depth: i for i, c in enumerate(self._choices) if c.possible}
            if able:
                self.box.setCurrentIndex(able.get(before, able.get(None, 0)))
        self.box.setEnabled(len(self._choices) > 1)
        self.note.setVisible(any(not choice.possible for choice in self._choices))
