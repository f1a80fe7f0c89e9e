"""Held-out patches beside what is learnt and what is predicted."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.jobs import Example
from napari_wsss.panels.support.examples import ExampleGrid

CLASSES = ClassTable.from_names(["tumour", "stroma"], colors=["#ff0000", "#00ff00"])


def example(target):
    mask = np.full((8, 8), target, np.uint8)
    mask[0] = 1
    return Example("a", np.zeros((8, 8, 3), np.uint8), mask, np.ones((8, 8), np.uint8))


@pytest.fixture
def grid(qtbot):
    grid = ExampleGrid()
    qtbot.addWidget(grid)
    return grid


def test_grey_is_explained_where_there_is_some(grid):
    grid.show_examples([example(0), example(IGNORE)], CLASSES, "pseudo mask", 3)
    assert not grid.note.isHidden()
    assert "pseudo mask" in grid.note.text()
    colors = [label.pixmap().toImage().pixelColor(40, 60) for label in grid._rows[1]]
    # Screens of 16 bits have steps of 8.
    assert np.abs(np.array(colors[1].getRgb()[:3]) - 128).max() <= 8
    assert np.abs(np.array(colors[2].getRgb()[:3]) - (0, 255, 0)).max() <= 8
    grid.show_examples([example(0)], CLASSES, "true mask", 4)
    assert grid.note.isHidden()
    assert [label.isHidden() for label in grid._rows[1]] == [True] * 3
