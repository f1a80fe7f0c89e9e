import numpy as np
import pytest

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation import colorize, heatmap, legend, overlay

CLASSES = ClassTable.from_names(["a", "b"], colors=["#ff0000", "#0000ff"])
MASK = np.array([[0, 1, IGNORE]], np.uint8)


def test_colorize_paints_classes_and_leaves_the_rest_white_or_clear():
    assert colorize(MASK, CLASSES)[0].tolist() == [[255, 0, 0], [0, 0, 255], [255, 255, 255]]
    clear = colorize(MASK, CLASSES, background=None)
    assert clear[0, :, 3].tolist() == [255, 255, 0]
    assert colorize(MASK, CLASSES, background=(1, 2, 3))[0, 2].tolist() == [1, 2, 3]


def test_values_past_the_classes_are_no_class():
    assert colorize(np.array([[2, -1, 300]]), CLASSES).min() == 255


def test_overlay_mixes_by_alpha_and_keeps_unlabelled_pixels():
    image = np.full((1, 3, 3), 100, np.uint8)
    mixed = overlay(image, MASK, CLASSES, alpha=0.5)
    assert mixed[0].tolist() == [[178, 50, 50], [50, 50, 178], [100, 100, 100]]
    np.testing.assert_array_equal(overlay(image, MASK, CLASSES, alpha=0), image)


def test_heatmap_is_brighter_for_more_clips_and_leaves_nan_white():
    values = np.array([[-1, 0, 0.5, 1, 2, np.nan]])
    rgb = heatmap(values)[0].astype(int)
    assert rgb.shape == (6, 3)
    assert (rgb[0] == rgb[1]).all()
    assert (rgb[3] == rgb[4]).all()
    assert rgb[1].sum() < rgb[2].sum() < rgb[3].sum()
    assert (rgb[5] == 255).all()


def test_legend_is_in_order():
    assert legend(CLASSES) == [("a", "#ff0000"), ("b", "#0000ff")]


def test_bad_input_is_refused():
    with pytest.raises(DataError, match="do not belong together"):
        overlay(np.zeros((2, 3, 3), np.uint8), MASK, CLASSES)
    with pytest.raises(DataError, match="class indices"):
        colorize(MASK.astype(float), CLASSES)
    with pytest.raises(DataError, match=r"\(H, W\)"):
        heatmap(np.zeros(3))
    with pytest.raises(DataError, match="'rainbow-ish'"):
        heatmap(np.zeros((1, 1)), "rainbow-ish")
