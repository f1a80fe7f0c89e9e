"""Held-out patches while the segmenter learns: each beside its target and the prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.jobs import Example

__all__ = ["ExampleGrid"]

_SIDE_PX = 96
#: Pixels that are no class.
_IGNORED = (128, 128, 128)


class ExampleGrid(QWidget):
    """One row per patch: patch, target, prediction, in the colours of the classes."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._grid = QGridLayout()
        self._grid.setSpacing(4)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self._heads = [QLabel(), QLabel(), QLabel()]
        for column, head in enumerate(self._heads):
            self._grid.addWidget(head, 0, column)
        self._rows: list[list[QLabel]] = []
        self.note = QLabel()
        self.note.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(self._grid)
        layout.addWidget(self.note)
        self.setVisible(False)

    def show_examples(
        self, examples: Sequence[Example], classes: ClassTable, target: str, epoch: int
    ) -> None:
        """Show patches after an epoch.

        Parameters
        ----------
        examples
            The patches.
        classes
            Colours of the masks.
        target
            What the targets are, such as ``"pseudo mask"``.
        epoch
            Counted from 1.
        """
        for head, text in zip(self._heads, ("patch", target, f"after epoch {epoch}"), strict=True):
            head.setText(text)
        while len(self._rows) < len(examples):
            self._add_row()
        for row, labels in enumerate(self._rows):
            for label in labels:
                label.setVisible(row < len(examples))
        for labels, example in zip(self._rows, examples, strict=False):
            pictures = (
                example.image,
                colored(example.target, classes),
                colored(example.prediction, classes),
            )
            for label, pixels in zip(labels, pictures, strict=True):
                label.setPixmap(_pixmap(pixels))
                label.setToolTip(example.name)
        self.note.setText(f"Grey: the {target} says nothing there.")
        silent = any(bool((example.target >= len(classes)).any()) for example in examples)
        self.note.setVisible(silent)
        self.setVisible(bool(examples))

    def clear(self) -> None:
        """Show nothing."""
        self.setVisible(False)

    def _add_row(self) -> None:
        labels = [QLabel(), QLabel(), QLabel()]
        self._rows.append(labels)
        for column, label in enumerate(labels):
            self._grid.addWidget(label, len(self._rows), column)


def colored(mask: NDArray[np.uint8], classes: ClassTable) -> NDArray[np.uint8]:
    """Return class indices (H, W) as the classes' colours (H, W, 3); grey where none."""
    table = np.full((256, 3), _IGNORED, np.uint8)
    table[: len(classes)] = classes.rgb
    table[IGNORE] = _IGNORED
    return table[mask]


def _pixmap(pixels: NDArray[np.uint8]) -> QPixmap:
    height, width = pixels.shape[:2]
    data = pixels.tobytes()  # must live until the conversion has copied it
    image = QImage(data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return QPixmap.fromImage(image).scaled(
        _SIDE_PX,
        _SIDE_PX,
        Qt.AspectRatioMode.KeepAspectRatio,
        Qt.TransformationMode.SmoothTransformation,
    )
