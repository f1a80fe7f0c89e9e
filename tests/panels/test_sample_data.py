"""The sample data of the menu."""

from __future__ import annotations

import numpy as np
import pytest

import napari_wsss.samples
from napari_wsss.panels.sample_data import synthetic_slide_layers


def test_slide_and_truth_lie_on_each_other(monkeypatch):
    draw = napari_wsss.samples.synthetic_slide
    monkeypatch.setattr(napari_wsss.samples, "synthetic_slide", lambda: draw((256, 256)))
    slide, truth = synthetic_slide_layers()
    expected = draw((256, 256))

    assert slide[2] == "image"
    assert slide[1]["rgb"] is True
    assert truth[2] == "labels"
    assert truth[1]["visible"] is False
    assert slide[1]["scale"] == truth[1]["scale"] == pytest.approx((1.0, 1.0))
    np.testing.assert_array_equal(slide[0], expected.image)
    assert np.all(truth[0][expected.truth == 255] == 0)
    for i in range(4):
        assert np.all(truth[0][expected.truth == i] == i + 1)
        assert truth[1]["colormap"][i + 1] == expected.classes.classes[i].color
