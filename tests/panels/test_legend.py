"""The legend: rows, numbers, what is hidden."""

from __future__ import annotations

import pytest
from qtpy.QtWidgets import QCheckBox, QLabel

from napari_wsss.classes import ClassTable
from napari_wsss.panels.support.legend import Legend, area_text, share_text

CLASSES = ClassTable.from_names(["tumour", "stroma"], colors=["#d55e00", "#009e73"])
AREAS = [
    {"class": "background", "share_of_tissue": None, "area_mm2": 9.0},
    {"class": "tumour", "share_of_tissue": 0.25, "area_mm2": 0.5},
    {"class": "stroma", "share_of_tissue": 0.75, "area_mm2": 1.5},
]


@pytest.fixture
def legend(qtbot):
    legend = Legend()
    qtbot.addWidget(legend)
    legend.set_classes(CLASSES)
    return legend


def texts(legend):
    return [label.text() for label in legend.findChildren(QLabel) if label.text()]


def test_names_shares_and_areas(legend):
    legend.set_areas(AREAS)
    found = texts(legend)
    for text in ("tumour", "25.0 %", "0.500 mm²", "stroma", "75.0 %", "1.50 mm²"):
        assert text in found
    assert "tissue 2.00 mm²" in found
    assert not any("background" in text for text in found)
    legend.set_areas(None)
    assert texts(legend) == ["tumour", "stroma"]


def test_swatches_have_the_colours(legend):
    swatches = [w.pixmap().toImage() for w in legend.findChildren(QLabel) if w.pixmap().width()]
    assert len(swatches) == 2
    for swatch, info in zip(swatches, CLASSES.classes, strict=True):
        found = swatch.pixelColor(7, 7).getRgb()[:3]
        # A display of 16 bits rounds them.
        assert max(abs(a - b) for a, b in zip(found, info.rgb, strict=True)) < 8


def test_without_resolution_there_are_shares_alone(legend):
    legend.set_areas([{**row, "area_mm2": None} for row in AREAS])
    assert texts(legend) == ["tumour", "25.0 %", "stroma", "75.0 %"]


def test_hiding_a_class_is_told(legend, qtbot):
    _, stroma = legend.findChildren(QCheckBox)
    with qtbot.waitSignal(legend.hidden_changed):
        stroma.click()
    assert legend.hidden == {1}
    legend.set_classes(ClassTable.from_names(["tumour", "stroma"], colors=["#d55e00", "#009e73"]))
    assert legend.hidden == {1}  # the same classes: the choice stays


def test_other_classes_replace_the_rows(legend, qtbot):
    legend.set_classes(ClassTable.from_names(["a", "b", "c"]))
    qtbot.waitUntil(lambda: len(legend.findChildren(QCheckBox)) == 3)
    assert legend.hidden == frozenset()
    legend.set_classes(None)
    assert not legend.isVisible()


def test_long_names_do_not_widen_it(legend):
    legend.set_classes(ClassTable.from_names(["a very long name of a tissue " * 5, "b"]))
    legend.set_areas([{"class": "b", "share_of_tissue": 1.0, "area_mm2": 12345.6}])
    assert legend.minimumSizeHint().width() < 320


@pytest.mark.parametrize(
    ("mm2", "text"),
    [(0, "0 mm²"), (4.5e-4, "450 µm²"), (0.0123, "0.012 mm²"), (12.34, "12.3 mm²"),
     (1234.5, "1,234 mm²")],
)  # fmt: skip
def test_areas_have_three_figures(mm2, text):
    assert area_text(mm2) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0.0 %"), (1e-5, "< 0.1 %"), (0.5, "50.0 %")])
def test_a_little_is_not_nothing(share, text):
    assert share_text(share) == text
