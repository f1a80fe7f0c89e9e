"""Results as layers show them, and what the segment panel says of one that was opened."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_wsss.classes import ClassTable
from napari_wsss.inference import SlideSegmentation, segment_slide
from napari_wsss.panels.reader import read
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.shown_results import ShownResult, layers_of, result_of
from napari_wsss.panels.support.state import state_of
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(["gland", "stroma", "fat"])
WAIT = 30_000


@pytest.fixture(scope="module")
def made(tmp_path_factory, small_segmenter):
    """The finished result of a slide of 640 x 512 px."""
    blocks = np.random.default_rng(1).integers(0, 256, (32, 40, 3), np.uint8)
    slide = open_slide([blocks.repeat(16, 0).repeat(16, 1)], mpp=0.5, name="case")
    settings = InferenceSettings(tissue_only=False, precision="fp32", gate=False)
    folder = tmp_path_factory.mktemp("made")
    return segment_slide(slide, small_segmenter(1.0), folder, settings).path


@pytest.fixture
def path(made, tmp_path):
    return shutil.copytree(made, tmp_path / made.name)


def add_result(viewer, path):
    for data, options, kind in read(path):
        getattr(viewer, f"add_{kind}")(data, **options)


def rows_of(panel):
    return [row.share.text() for row in panel.legend._rows]


def shares(path):
    rows = SlideSegmentation.open(path).summary()["classes"][1:]
    return [f"{100 * row['share_of_tissue']:.1f} %" for row in rows]


def test_layers_of_a_result_are_known_by_what_they_tell(path):
    viewer = ViewerModel()
    viewer.add_labels(np.zeros((4, 4), np.uint8), name="no result")
    add_result(viewer, path)
    doubt, labels = list(viewer.layers)[1:]
    assert layers_of(viewer, path) == [doubt, labels]
    assert (result_of(labels), result_of(doubt)) == (path, None)
    assert layers_of(viewer, path.with_name("other.ome.zarr")) == []
    assert ShownResult.find(viewer, path.with_name("other.ome.zarr")) is None


def test_classes_that_somebody_else_hid_are_shown_again(path):
    viewer = ViewerModel()
    add_result(viewer, path)
    ShownResult.find(viewer, path).hide({1})
    found = ShownResult.find(viewer, path)
    assert found.labels.colormap.color_dict[2][3] == 0
    found.hide(())
    assert found.labels.colormap.color_dict[2][3] == 1


def test_uncertainty_that_was_deleted_is_laid_over_the_labels(path):
    viewer = ViewerModel()
    add_result(viewer, path)
    found = ShownResult.find(viewer, path)
    assert found.layers == list(viewer.layers)[::-1]
    viewer.layers.remove(found.uncertainty)
    found.show_uncertainty(True)
    labels, doubt = viewer.layers
    assert (labels, doubt) == (found.labels, found.uncertainty)
    np.testing.assert_allclose(doubt.extent.world, labels.extent.world)
    assert doubt.units == labels.units


@pytest.fixture
def window(viewer):
    # Drawn by software, napari 0.9 crashes when its first layer goes and another is drawn.
    viewer.add_image(np.zeros((2, 2), np.uint8), name="first", units=("µm", "µm"))
    return viewer


def test_a_result_that_is_opened_is_summed_up_without_slide_or_model(
    window, add_panel, path, qtbot
):
    panel = add_panel(SegmentPanel)
    window.open(str(path), plugin="napari-wsss")
    qtbot.waitUntil(lambda: panel.shown.text() == "case", timeout=WAIT)
    assert state_of(window).result == path
    assert panel.legend.classes == CLASSES
    assert rows_of(panel) == shares(path)
    assert "export the result below" in panel._guide.text()
    assert "Open a slide first" not in panel.job.message.text()
    panel.legend._rows[1].shown.click()
    (labels,) = [layer for layer in window.layers if isinstance(layer, Labels)]
    assert labels.colormap.color_dict[2][3] == 0
    panel.uncertainty.click()
    assert window.layers["case uncertainty"].visible
    for kind, suffix in (("geojson", ".geojson"), ("csv", ".csv"), ("picture", ".png")):
        with qtbot.waitSignal(panel.exports.job.runner.finished, timeout=WAIT):
            panel.exports.buttons[kind].click()
        assert path.with_name(f"case{suffix}").stat().st_size > 0


def test_one_that_was_opened_before_the_panel_or_once_more(window, add_panel, path, qtbot):
    window.open(str(path), plugin="napari-wsss")
    panel = add_panel(SegmentPanel)
    assert panel.shown.text() == "case"
    assert rows_of(panel) == shares(path)
    for layer in layers_of(window, path):
        window.layers.remove(layer)
    window.open(str(path), plugin="napari-wsss")
    qtbot.waitUntil(lambda: len(panel._result.layers) == 2, timeout=WAIT)
    panel.legend._rows[0].shown.click()
    (labels,) = [layer for layer in window.layers if isinstance(layer, Labels)]
    assert labels.colormap.color_dict[1][3] == 0


def test_the_one_opened_last_is_summed_up(window, add_panel, path, tmp_path, qtbot):
    other = shutil.copytree(path, tmp_path / "second.ome.zarr")
    panel = add_panel(SegmentPanel)
    for opened in (path, other):
        window.open(str(opened), plugin="napari-wsss")
    qtbot.waitUntil(lambda: panel.shown.text() == "second", timeout=WAIT)
    assert len(layers_of(window, path)) == len(layers_of(window, other)) == 2
    with qtbot.waitSignal(panel.exports.job.runner.finished, timeout=WAIT):
        panel.exports.buttons["csv"].click()
    assert (tmp_path / "second.csv").is_file()
    assert not (tmp_path / "case.csv").exists()


def test_what_is_not_finished_is_not_handed_on(path, monkeypatch):
    monkeypatch.setattr("napari.utils.notifications.show_info", lambda text: None)
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**record, "complete": False}))
    viewer = ViewerModel()
    state = state_of(viewer)
    add_result(viewer, path)
    assert len(layers_of(viewer, path)) == 2
    assert state.result is None
