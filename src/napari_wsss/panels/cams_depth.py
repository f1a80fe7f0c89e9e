"""Choosing the map to look at: of the joint head, of one depth, of all depths, or Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QStandardItemModel, QWheelEvent
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_wsss.cams.explanation import FUSED
from napari_wsss.models.depths import depth_count, has_head, has_joint_head
from napari_wsss.panels.cams_words import FUSED_NAME, JOINT_NAME, SOURCES, depth_title

if TYPE_CHECKING:
    from napari_wsss.models import ModelInfo

__all__ = ["MapBox", "MapChoice", "map_choices", "method_problem"]

_WHY = (
    "The depths in grey cannot be mapped over a whole slide: this classifier has a class head at "
    "its deepest layer only, and their maps (Grad-CAM) need gradients, one patch at a time. Look "
    "at a region to see them, or train with deep supervision."
)


@dataclass(frozen=True)
class MapChoice:
    """One map that a classifier can show.

    Attributes
    ----------
    name
        What a user calls it.
    method
        How it is made, as the setting ``method`` of pseudo masks says it.
    index
        Its place among the maps of an `Explanation` made so; `FUSED` for that of all depths.
    depth
        The depth as `map_slide` takes it; None for the classifier's own map.
    possible
        Whether it can be had of what is looked at.
    """

    name: str
    method: str
    index: int
    depth: int | None
    possible: bool = True

    @property
    def made(self) -> tuple[str, int]:
        """How it is made, by which it is known again among the maps of another classifier."""
        return self.method, self.index


def map_choices(info: ModelInfo, *, whole: bool = False) -> list[MapChoice]:
    """Return the maps of a classifier: of the joint head, of its depths shallow to deep, of all.

    Parameters
    ----------
    info
        The classifier.
    whole
        Return those of whole slides, of which there is no Grad-CAM; where a depth has nothing
        else, it is returned as one that cannot be had. Of patches and regions all are returned,
        last the Grad-CAM of depths that have a head as well.
    """
    count, joint = depth_count(info), has_joint_head(info)
    heads = bool(info.architecture.get("deep_supervision"))
    choices = [MapChoice(JOINT_NAME, "joint", 0, None)] if joint else []
    method = "heads" if heads else "gradcam"
    for n in range(1, count + 1):
        # Where there is one head and nothing else, it is what the classifier goes by.
        own = n == count and not joint and (count == 1 or not heads)
        possible = not whole or has_head(info, n)
        title = depth_title(n - 1, count)
        choices.append(MapChoice(title, method, n - 1, None if own else n, possible))
    if count > 1 and not (whole and joint):
        choices.append(MapChoice(FUSED_NAME, method, FUSED, None, heads or not whole))
    if count > 1 and heads and not whole:
        for n in range(1, count + 1):
            title = depth_title(n - 1, count, gradcam=True)
            choices.append(MapChoice(title, "gradcam", n - 1, n))
        choices.append(MapChoice(f"Grad-CAM, {FUSED_NAME.lower()}", "gradcam", FUSED, None))
    return choices


def method_problem(info: ModelInfo, method: str) -> str | None:
    """Return why a classifier's maps cannot be made by a method; None if they can."""
    if method == "segmenter":
        return "Method 'segmenter' is for a second round, in a project. Choose 'auto' below."
    if method == "joint" and not has_joint_head(info):
        return "Method 'joint' needs a classifier with a joint head. Choose 'auto' below."
    if method == "heads" and not has_head(info, 1):
        return (
            "Method 'heads' needs a class head at every depth; this classifier has one at its "
            "deepest layer only. Choose 'auto' below."
        )
    return None


class MapBox(QWidget):
    """Chooses a map of the classifier, and says what to know of the choice.

    Attributes
    ----------
    changed
        Signal: another map was chosen.
    """

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._info: ModelInfo | None = None
        self._method = ""
        self._whole = False
        self._asked: tuple[str, int] | None = None
        self._choices: list[MapChoice] = []
        self.box = _Box()
        self.box.setAccessibleName("Map to look at")
        self.box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.box.setMinimumContentsLength(12)
        self.box.setToolTip(
            "<p>Which map of the classifier is shown. Shallow depths show fine structure, deep "
            "ones say more surely what it is; the fused map is the mean of all depths; the joint "
            "head sees them all at once. Grad-CAM asks which features decided instead of "
            "reading a depth's class head.</p>"
            "<p>Of single depths, the last cell shows where all of them agree; of the joint head, "
            "how probable each pixel's class is.</p>"
        )
        self.note = QLabel()
        self.note.setWordWrap(True)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Map", self.box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(form)
        layout.addWidget(self.note)
        self.box.currentIndexChanged.connect(self._picked)
        self._offer()

    @property
    def chosen(self) -> MapChoice | None:
        """The map that is chosen; None without a classifier."""
        at = self.box.currentData()
        return None if at is None else self._choices[at]

    def set_info(self, info: ModelInfo | None, method: str) -> None:
        """Offer the maps of a classifier; one that was chosen stays so if it can.

        Parameters
        ----------
        info
            The classifier.
        method
            How the pseudo masks of the data set are made, settled for this classifier.
        """
        self._info, self._method = info, method
        self._offer()

    def set_method(self, method: str) -> bool:
        """Show the map that the pseudo masks of the data set are made from.

        Returns whether that is another one.
        """
        if method == self._method:
            return False
        self._method = method
        before = self.chosen
        if not self._whole:
            self._asked = None
        self._offer()
        if self.chosen != before:
            self.changed.emit()
        return True

    def set_whole(self, whole: bool) -> None:
        """Offer what can be had of a whole slide, or of a patch or region."""
        if whole != self._whole:
            self._whole = whole
            self._offer()

    def _offer(self) -> None:
        info = self._info
        self._choices = [] if info is None else map_choices(info, whole=self._whole)
        with QSignalBlocker(self.box):
            self.box.clear()
            for i, choice in enumerate(self._choices):
                before = self._choices[i - 1] if i else choice
                if "gradcam" in (choice.method, before.method) and choice.method != before.method:
                    self.box.insertSeparator(self.box.count())
                self.box.addItem(choice.name, i)
                if not choice.possible:
                    self._disable(self.box.count() - 1)
            self.box.setCurrentIndex(self.box.findData(self._default()))
        self.box.setEnabled(len(self._choices) > 1)
        self._explain()

    def _disable(self, row: int) -> None:
        items = self.box.model()
        assert isinstance(items, QStandardItemModel)
        item = items.item(row)
        if item is not None:
            item.setEnabled(False)
            item.setToolTip(f"<p>{_WHY}</p>")

    def _default(self) -> int:
        """Return the place of what was asked for, or of what one expects to see first."""
        able = [i for i, choice in enumerate(self._choices) if choice.possible]
        asked = [i for i in able if self._choices[i].made == self._asked]
        if self._whole:
            own = [i for i in able if self._choices[i].depth is None]
        else:
            own = [i for i in able if self._choices[i].method == self._method][-1:]
        return next(iter([*asked, *own, *able]), -1)

    def _picked(self, _: int) -> None:
        chosen = self.chosen
        if chosen is not None:
            self._asked = chosen.made
        self._explain()
        self.changed.emit()

    def _explain(self) -> None:
        chosen = self.chosen
        if self._whole:
            text = "" if all(choice.possible for choice in self._choices) else _WHY
        elif chosen is None or self._method not in {c.method for c in self._choices}:
            text = ""  # what makes no masks is said where they are made
        elif chosen.method == self._method:
            text = ""
        else:
            text = (
                f"Only to look at: the pseudo masks of the data set are made from "
                f"{SOURCES[self._method]}, as Method says below."
            )
        self.note.setText(text)
        self.note.setVisible(bool(text))


class _Box(QComboBox):
    """Changes by the wheel only with focus: each map may have to be computed."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def wheelEvent(self, event: QWheelEvent | None) -> None:
        """Let the wheel scroll the panel where it only passes over."""
        if event is not None and not self.hasFocus():
            event.ignore()
        else:
            super().wheelEvent(event)
