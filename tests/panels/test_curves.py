"""The curves of a run, measured on their pixels and on what they say."""

from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.panels.support.curves import Curves, Scores, best_epoch
from napari_wsss.panels.support.run_view import best_text

SCORES = Scores({"map": "mAP", "exact_match": "exact match"}, "ap ", "average precision")
CLASSES = ClassTable.from_names(["tumour", "stroma"], colors=["#d55e00", "#f0e442"])
HISTORY = [
    {"loss": 0.7, "map": 0.5, "exact_match": 0.3, "ap tumour": 0.4, "ap stroma": 0.6, "best": 1.0},
    {"loss": 0.4, "map": 0.9, "exact_match": 0.6, "ap tumour": 0.8, "ap stroma": 0.9, "best": 1.0},
    {"loss": 0.3, "map": 0.8, "exact_match": 0.7, "ap tumour": 0.7, "ap stroma": 0.9, "best": 0.0},
]  # fmt: skip


@pytest.fixture
def curves(viewer, qtbot):
    widget = Curves(viewer, SCORES)
    qtbot.addWidget(widget)
    widget.resize(330, 400)
    return widget


def pixels(widget):
    """Return the canvas as (H, W, 3)."""
    widget._canvas.draw()
    return np.asarray(widget._canvas.buffer_rgba())[..., :3].astype(int)


def near(image, color):
    """Count the pixels of a colour."""
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(image - rgb).max(-1) < 12).sum())


def test_nothing_is_drawn_before_there_is_something(curves):
    assert curves._canvas is None
    assert curves.isHidden()


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_lines_have_the_colours_of_their_class_on_either_theme(curves, viewer, theme):
    viewer.theme = theme
    curves.show_history(HISTORY, CLASSES, epochs=5)
    image = pixels(curves)
    assert all(near(image, info.color) > 50 for info in CLASSES.classes)
    brightness = np.median(image)
    assert brightness < 80 if theme == "dark" else brightness > 180
    # Text and axes stand out from the background.
    assert (np.abs(image - np.median(image, (0, 1))).max(-1) > 120).sum() > 300


def test_the_theme_is_followed(curves, viewer):
    viewer.theme = "dark"
    curves.show_history(HISTORY, CLASSES, epochs=5)
    dark = np.median(pixels(curves))
    viewer.theme = "light"
    assert np.median(pixels(curves)) > dark + 100


def test_the_values_of_the_best_epoch_are_told(curves):
    curves.show_history(HISTORY, CLASSES, epochs=5)
    assert curves.values.text() == (
        "Epoch 2 (kept): loss 0.400, mAP 0.90, exact match 0.60, tumour 0.80, stroma 0.90"
    )
    curves._tell(3)
    assert curves.values.text().startswith("Epoch 3: loss 0.300")


def test_without_held_out_patches_there_is_the_loss_alone(curves):
    curves.show_history([{"loss": 0.5, "best": 1.0}], CLASSES, epochs=2)
    assert len(curves._canvas.figure.axes) == 1
    curves.clear()
    assert curves.isHidden()


def test_a_class_without_a_score_has_no_line(curves):
    rows = [{k: v for k, v in row.items() if k != "ap stroma"} for row in HISTORY]
    curves.show_history(rows, CLASSES, epochs=3)
    labels = [line.get_label() for line in curves._canvas.figure.axes[1].lines]
    assert "tumour" in labels
    assert "stroma" not in labels


@pytest.mark.parametrize("width", [280, 350, 900])
def test_axes_stay_within_the_canvas(curves, qtbot, width):
    curves.show_history(HISTORY, CLASSES, epochs=5)
    curves.resize(width, 400)
    curves.show()
    qtbot.waitUntil(lambda: curves._canvas.width() == width)
    curves._canvas.draw()
    for ax in curves._canvas.figure.axes:
        box = ax.get_tightbbox()
        assert box.x0 >= 0
        assert box.x1 <= curves._canvas.figure.bbox.width + 1


def test_the_best_epoch_is_the_last_that_was_better():
    assert best_epoch(HISTORY) == 2
    assert best_epoch([]) is None
    assert best_text(HISTORY, SCORES) == "Kept epoch 2 of 3, mAP 0.90, exact match 0.60"
    assert "nothing is held out" in best_text([{"loss": 0.5, "best": 1.0}], SCORES)
