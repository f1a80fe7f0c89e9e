"""What one paints corrections with."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")
pytest.importorskip("napari")

from napari.layers import Labels
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QLabel

from napari_wsss.classes import ClassTable
from napari_wsss.panels.correct_tools import AreaTable, PaintTools


@pytest.fixture
def tools(qtbot):
    found = PaintTools()
    qtbot.addWidget(found)
    return found


def paint_on(tools, classes):
    """Return a layer, and a function that presses keys on the canvas while it is selected."""
    layer = Labels(np.zeros((8, 8), np.uint8))
    tools.paint_on(layer, ClassTable.from_names([f"class {i}" for i in range(classes)]))
    handler = KeymapHandler()
    handler.keymap_providers = [layer]

    def press(*keys):
        for key in keys:
            handler.press_key(key)
            handler.release_key(key)

    return layer, press


def test_classes_after_the_17th_have_two_keys(tools):
    layer, press = paint_on(tools, 20)
    signs = [sign.text() for sign in tools.findChildren(QLabel) if sign.objectName() == "key"]
    assert signs[15:] == ["I", "P", "O A", "O S", "O D", "N"]
    press("P")
    assert layer.selected_label == 17
    press("O", "D")
    assert layer.selected_label == 20
    press("D")
    assert layer.selected_label == 3, "only the key after O is another one"
    press("O", "F")
    assert layer.selected_label == 3, "there is no such class"
    press("O", "O", "S")
    assert layer.selected_label == 2, "a second O takes it back"
    press("O", "N")
    assert layer.selected_label == 0
    assert "O, then A" in tools._classes.button(18).toolTip()


def test_the_same_after_a_click_in_the_panel(tools):
    layer, press = paint_on(tools, 20)
    for key, text in ((Qt.Key.Key_O, "o"), (Qt.Key.Key_S, "s")):
        event = QKeyEvent(QEvent.Type.KeyPress, key, Qt.KeyboardModifier.NoModifier, text)
        assert tools.press(event)
    assert layer.selected_label == 19
    press("O")
    tools._classes.button(4).click()
    press("A")
    assert layer.selected_label == 1, "a click is no second key"


def test_few_classes_leave_the_first_of_two_keys_alone(tools):
    paint_on(tools, 17)
    event = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_O, Qt.KeyboardModifier.NoModifier, "o")
    assert not tools.press(event)


def test_changes_have_as_many_digits_as_they_need(qtbot):
    table = AreaTable()
    qtbot.addWidget(table)
    areas = {"a": (0.05, 0.0568), "b": (2.0, 1.99954), "c": (1.0, 1.00002), "d": (1.0, 1.0)}
    before, after = (
        [{"class": "background", "pixels": 0, "area_mm2": 0.0}]
        + [
            {"class": name, "pixels": round(both[i] * 1e6), "area_mm2": both[i]}
            for name, both in areas.items()
        ]
        for i in (0, 1)
    )
    table.show_areas(ClassTable.from_names(list(areas)), before, after)
    said = [cells[2].text() for cells in table._cells.values()]
    assert said == ["+0.0068", "−0.0005", "+0.00002", ""]
