"""What is shown of an explanation: the threshold, and what the classes come to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtGui import QColor, QPixmap
from qtpy.QtWidgets import (
    QFormLayout,
    QLabel,
    QSizePolicy,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from napari_wsss.classes import IGNORE
from napari_wsss.panels.cams_table import NumberTable
from napari_wsss.panels.cams_words import certainty_text
from napari_wsss.panels.cams_work import Found
from napari_wsss.settings import PseudoMaskSettings

__all__ = ["ViewBox"]

_SWATCH_PX = 12


class ViewBox(QWidget):
    """Controls and numbers of the explanation that is shown.

    Attributes
    ----------
    threshold_changed, label_changed
        Signals: the slider moved; classes were ticked or unticked.
    """

    threshold_changed = Signal(float)
    label_changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._found: Found | None = None
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)
        self.threshold = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        self.threshold.setRange(0, 1)
        self.threshold.setSingleStep(0.01)  # type: ignore[arg-type]
        self.threshold.setDecimals(2)
        self.threshold.setToolTip(
            "<p>Pixels whose strongest map is below this stay without a class. 0 keeps all. "
            "The pseudo masks of the data set are made with it, too.</p>"
        )
        self.table = NumberTable(["class", "probability", "of the mask"])
        self.text = QLabel()
        self.text.setWordWrap(True)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Threshold", self.threshold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addLayout(form)
        layout.addWidget(self.table)
        layout.addWidget(self.text)
        self.threshold.valueChanged.connect(self.threshold_changed)
        self.table.itemChanged.connect(self._ticked)
        self.table.setVisible(False)
        self.text.setVisible(False)

    @property
    def label(self) -> NDArray[np.bool_] | None:
        """(K,) bool: the classes that are ticked; None where ticks are not offered."""
        rows = [self.table.item(k, 0) for k in range(self.table.rowCount())]
        if not rows or not all(r.flags() & Qt.ItemFlag.ItemIsUserCheckable for r in rows if r):
            return None
        return np.array([r is not None and r.checkState() == Qt.CheckState.Checked for r in rows])

    def set_found(self, found: Found | None, *, choose_label: bool = False) -> None:
        """Show another explanation, or none.

        Parameters
        ----------
        found
            What to show.
        choose_label
            Offer a tick per class that says whether it may occur, for regions, whose label
            nobody gave.
        """
        self._found = found
        self.table.setVisible(found is not None)
        self.text.setVisible(found is not None)
        if found is None:
            with QSignalBlocker(self.table):
                self.table.setRowCount(0)
            return
        with QSignalBlocker(self.table):
            self._fill_table(choose_label)

    def show_mask(self, mask: NDArray[np.uint8], settings: PseudoMaskSettings) -> None:
        """Show the numbers of a mask (H, W) of the explanation, made by these settings."""
        if self._found is None:
            return
        shown = self._found.explanation
        counts = np.bincount(mask.reshape(-1), minlength=256)
        kept = int(counts.sum() - counts[IGNORE])
        with QSignalBlocker(self.table):
            for k in range(len(shown.classes)):
                item = self.table.item(k, 2)
                if item is not None:
                    item.setText(f"{counts[k] / max(kept, 1):.0%}")
        lines = [f"{kept / mask.size:.0%} of the pixels have a class."]
        lines.append(certainty_text(self._found, settings))
        if settings.overlaps and self._found.narrowed:
            lines.append("In the data set, patches that overlap this one narrow its mask down.")
        if self._found.place is None and self._found.mpp is None:
            lines.append("The µm/px of this patch is not known: no scale bar is right for it.")
        if shown.label.sum() == 1:
            lines.append("One class only: its mask is that class everywhere, at any threshold.")
        said = " ".join(line for line in lines if line)
        self.text.setText(said + self._quality(settings.least_certainty))

    def _quality(self, certainty: float) -> str:
        """Return a line that measures the explanation against the patch's mask."""
        found = self._found
        if found is None or found.truth is None or found.explanation.label.sum() == 1:
            return ""
        values = found.explanation.miou(found.truth, self.threshold.value(), certainty)
        if found.explanation.depths == 1:
            return f"<br>Against this patch's mask, mean IoU: {values[0]:.2f} (measured only)."
        names = [*(str(d + 1) for d in range(len(values) - 1)), "fused"]
        rows = ", ".join(f"{n}: {v:.2f}" for n, v in zip(names, values, strict=True))
        return f"<br>Against this patch's mask, mean IoU by depth: {rows} (measured only)."

    def _fill_table(self, choose_label: bool) -> None:
        assert self._found is not None
        shown = self._found.explanation
        self.table.setRowCount(len(shown.classes))
        for k, info in enumerate(shown.classes.classes):
            swatch = QPixmap(_SWATCH_PX, _SWATCH_PX)
            swatch.fill(QColor(info.color))
            name = QTableWidgetItem(info.name)
            name.setData(Qt.ItemDataRole.DecorationRole, swatch)
            flags = Qt.ItemFlag.ItemIsEnabled
            if choose_label:
                flags |= Qt.ItemFlag.ItemIsUserCheckable
                checked = Qt.CheckState.Checked if shown.label[k] else Qt.CheckState.Unchecked
                name.setCheckState(checked)
                name.setToolTip("<p>May this class occur in the region?</p>")
            elif shown.label[k]:
                font = name.font()
                font.setBold(True)
                name.setFont(font)
                name.setToolTip("<p>In the label of this patch.</p>")
            name.setFlags(flags)
            self.table.setItem(k, 0, name)
            self.table.put(k, 1, f"{shown.probabilities[k]:.2f}")
            self.table.put(k, 2, "")
        self.table.fit()

    def _ticked(self, item: QTableWidgetItem) -> None:
        if item.column() == 0:
            self.label_changed.emit()
