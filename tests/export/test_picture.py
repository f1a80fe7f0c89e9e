"""The picture: colours over the slide, legend, scale bar."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError, OutputError
from napari_wsss.export import export_picture
from napari_wsss.export.picture import overview_job, picture_level, scale_bar
from napari_wsss.jobs import CancelToken, Progress, run_job
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(["tumour", "stroma"], colors=["#ff0000", "#0000ff"])


@pytest.fixture
def labels():
    labels = np.zeros((1500, 1300), np.uint8)  # drawn pixel by pixel
    labels[:, :400] = 1
    labels[:, 400:800] = 2
    labels[:100, 800:] = 255
    return labels


def drawn(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_colours_without_a_slide(labels, tmp_path):
    size = export_picture(labels, tmp_path / "p.png", CLASSES)
    picture = drawn(tmp_path / "p.png")
    assert picture.shape == (*size, 3)
    inside = picture[18 : 18 + 1500, 18 : 18 + 1300]
    assert inside[700, 100].tolist() == [255, 0, 0]
    assert inside[700, 600].tolist() == [0, 0, 255]
    assert inside[700, 1000].tolist() == [255, 255, 255]
    assert inside[50, 1000].tolist() == [223, 223, 223]


def test_the_slide_shines_through_and_glass_is_untouched(labels, tmp_path):
    image = np.full((*labels.shape, 3), 100, np.uint8)
    export_picture(labels, tmp_path / "p.png", CLASSES, image=image, opacity=0.5)
    inside = drawn(tmp_path / "p.png")[18:, 18:]
    assert inside[700, 100].tolist() == [178, 50, 50]
    assert inside[700, 1000].tolist() == [100, 100, 100]


def test_the_scale_bar_is_as_long_as_it_says(labels, tmp_path):
    export_picture(labels, tmp_path / "p.png", CLASSES, mpp=2.0)
    picture = drawn(tmp_path / "p.png")
    below = picture[18 + 1500 + 18 + 2]  # a row through the bar
    bar = np.flatnonzero((below == (28, 37, 48)).all(-1))
    assert scale_bar(1300 * 2.0) == (500, "500 µm")
    assert len(bar) == pytest.approx(250, abs=1)
    export_picture(labels, tmp_path / "q.png", CLASSES)
    assert drawn(tmp_path / "q.png").shape[0] < picture.shape[0]


@pytest.mark.parametrize(
    ("um", "length", "text"),
    [(50, 10, "10 µm"), (999, 100, "100 µm"), (12_000, 2000, "2 mm"), (3, 0.5, "0.5 µm")],
)
def test_lengths_of_scale_bars(um, length, text):
    assert scale_bar(um) == (pytest.approx(length), text)


def test_the_legend_takes_more_room_for_more_words(labels, tmp_path):
    export_picture(labels, tmp_path / "p.png", CLASSES)
    rows = [
        {"class": "tumour", "share_of_tissue": 0.25, "area_mm2": 1.25},
        {"class": "stroma", "share_of_tissue": 0.75, "area_mm2": None},
    ]
    export_picture(labels, tmp_path / "q.png", CLASSES, areas=rows, title="a slide")
    bare, full = drawn(tmp_path / "p.png"), drawn(tmp_path / "q.png")
    assert full.shape[1] > bare.shape[1]
    swatches = full[:, 18 + 1300 + 18 :]
    assert (swatches == (255, 0, 0)).all(-1).sum() > 100
    assert not (full[:, -9:] != 255).any()  # nothing runs over the edge


def test_a_small_result_is_enlarged(tmp_path):
    export_picture(np.ones((60, 40), np.uint8), tmp_path / "p.png", CLASSES)
    assert (drawn(tmp_path / "p.png") == (255, 0, 0)).all(-1).sum() >= 1200 * 800


def test_what_is_there_is_not_replaced(labels, tmp_path):
    (tmp_path / "p.png").write_text("mine")
    with pytest.raises(OutputError, match="left as it is"):
        export_picture(labels, tmp_path / "p.png", CLASSES)
    assert (tmp_path / "p.png").read_text() == "mine"


def test_an_image_of_another_size_is_refused(labels, tmp_path):
    with pytest.raises(DataError, match="do not fit"):
        export_picture(labels, tmp_path / "p.png", CLASSES, image=np.zeros((5, 5, 3), np.uint8))


def test_the_level_that_fits():
    levels = [np.empty((n, 10), np.uint8) for n in (9000, 4500, 2250, 1125)]
    assert picture_level(levels) == 2
    assert picture_level(levels[:2]) == 1


def test_the_overview_of_a_slide():
    image = np.random.default_rng(0).integers(0, 255, (200, 90, 3), np.uint8)
    slide = open_slide(image, name="a")
    events = []
    found = run_job(overview_job(slide, 1.0, (205, 90)), events.append)
    np.testing.assert_array_equal(found[:200], image)
    assert (found[200:] == 255).all()
    assert [e.done for e in events if isinstance(e, Progress)] == [64, 128, 192, 205]
    token = CancelToken()
    token.cancel()
    with pytest.raises(CancelledError):
        run_job(overview_job(slide, 1.0, (200, 90), cancel=token))
