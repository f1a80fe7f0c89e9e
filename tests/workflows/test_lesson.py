"""The labelled data set that is drawn to try everything with."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.patches import report
from napari_wsss.slides import open_slide
from napari_wsss.workflows import draw_lesson


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    return draw_lesson(tmp_path_factory.mktemp("lesson"), (512, 1024), seed=1)


def test_patches_have_the_classes_of_their_pixels(lesson):
    patches = lesson.patches
    assert patches.mpp == 1.0
    assert len(set(patches.groups)) == 2
    assert not [p for p in report(patches).problems if p.severity == "error"]
    mask = patches.read_mask(0)
    for k in range(len(patches.classes)):
        assert patches.labels[0, k] == ((mask == k).mean() >= 0.05)


def test_slide_and_truth_are_one_picture(lesson):
    with open_slide(lesson.slide) as slide:
        assert slide.shape == (512, 1024)
        assert slide.mpp == pytest.approx(1.0)
    values = np.asarray(Image.open(lesson.truth))
    assert values.shape == (512, 1024)
    assert set(np.unique(values)) <= {0, 1, 2, 3, 4}


def test_what_is_there_is_not_drawn_again(lesson, monkeypatch):
    monkeypatch.setattr("napari_wsss.workflows.lesson.synthetic_slide", None)
    again = draw_lesson(lesson.slide.parents[1], (512, 1024), seed=1)
    assert again.patches.names == lesson.patches.names
