"""Choosing layers and paths."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")
pytest.importorskip("napari")

from napari.components import ViewerModel

from napari_wsss.panels.support.choosers import LayerChooser, PathField
from napari_wsss.panels.support.layer_slide import is_picture, may_be_slide, slide_problem

RGB = np.zeros((40, 50, 3), np.uint8)


@pytest.fixture
def model():
    return ViewerModel()


@pytest.fixture
def chooser(model, qtbot):
    found = LayerChooser(model, may_be_slide)
    qtbot.addWidget(found)
    return found


def items(chooser):
    return [chooser.itemText(i) for i in range(chooser.count())]


def test_it_offers_what_fits_and_follows_the_viewer(model, chooser):
    assert chooser.layer is None
    assert not chooser.isEnabled()
    first = model.add_image(RGB, name="first", rgb=True)
    model.add_image(RGB[..., 0], name="grey")
    model.add_labels(RGB[..., 0], name="labels")
    assert items(chooser) == ["first"]
    assert chooser.layer is first
    second = model.add_image(RGB, name="second", rgb=True)
    assert items(chooser) == ["second", "first"]
    assert chooser.layer is first  # the choice stays
    first.name = "renamed"
    assert "renamed" in items(chooser)
    model.layers.remove(first)
    assert chooser.layer is second


def test_it_tells_when_the_chosen_layer_is_laid_otherwise(model, chooser):
    layer = model.add_image(RGB, rgb=True, rotate=20)
    other = model.add_image(RGB, rgb=True)
    told = []
    chooser.chosen.connect(told.append)
    layer.rotate = 0
    layer.scale = (0.5, 0.5)
    layer.units = ("um", "um")
    assert told == [layer] * 3
    layer.scale = (0.5, 0.5)
    layer.translate = (3, 4)
    other.scale = (2, 2)
    assert len(told) == 3  # nothing changed, or nothing that matters here
    model.layers.remove(other)
    chooser.disconnect_viewer()
    layer.rotate = 20
    assert len(told) == 3


def test_without_a_slide_it_offers_what_a_panel_can_say_something_about(model, qtbot):
    chooser = LayerChooser(model, may_be_slide, otherwise=is_picture)
    qtbot.addWidget(chooser)
    model.add_labels(RGB[..., 0], name="labels")
    assert items(chooser) == []
    model.add_image(RGB[..., 0], name="grey")
    assert items(chooser) == ["grey"]
    assert "grey is not an RGB image" in slide_problem(chooser.layer)
    model.add_image(RGB, name="slide", rgb=True)
    assert items(chooser) == ["slide"]
    model.layers.remove("slide")
    assert items(chooser) == ["grey"]


def test_only_a_change_is_announced(model, chooser):
    said = []
    chooser.chosen.connect(said.append)
    first = model.add_image(RGB, rgb=True)
    second = model.add_image(RGB, rgb=True)
    model.layers.reverse()
    assert said == [first]
    chooser.layer = second
    model.layers.remove(second)
    model.layers.clear()
    assert said == [first, second, first, None]


def test_it_lets_go_of_the_viewer(model, chooser):
    chooser.disconnect_viewer()
    model.add_image(RGB, rgb=True)
    assert items(chooser) == []


def test_a_path_is_announced_once(qtbot, tmp_path):
    field = PathField("folder", "Data set")
    qtbot.addWidget(field)
    said = []
    field.changed.connect(said.append)
    field.path = tmp_path
    field.path = tmp_path
    field.line.setText(f'"{tmp_path / "a b"}"')  # as copied from a file manager
    field.line.editingFinished.emit()
    field.line.clear()
    assert said == [tmp_path, tmp_path / "a b", None]
    assert field.path is None
