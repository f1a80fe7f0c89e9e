"""The panel that segments slides, used as a person would."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_wsss.classes import ClassTable
from napari_wsss.cli.app import app
from napari_wsss.inference import SlideSegmentation
from napari_wsss.inference import pipeline as pipeline_module
from napari_wsss.jobs import Log
from napari_wsss.models import Classifier, ModelInfo, Segmenter, save_model
from napari_wsss.panels import segment_jobs
from napari_wsss.panels.segment import SegmentPanel
from napari_wsss.panels.support.state import state_of
from napari_wsss.settings import EncoderSettings, InferenceSettings
from napari_wsss.slides import convert_slide

CLASSES = ClassTable.from_names(["gland", "stroma", "fat"])
SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
WAIT = 30_000


def make_model(path: Path, *, kind="segmenter", mpp: float | None = 0.5) -> Path:
    torch.manual_seed(0)
    segmenter = {"decoder_channels": 16, "encoder_stages": 3}
    info = ModelInfo(
        kind=kind,
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture=segmenter if kind == "segmenter" else {},
        classes=CLASSES.to_dict(),
        patch_size_px=64,
        mpp=mpp,
    )
    return save_model({"segmenter": Segmenter, "classifier": Classifier}[kind](info).eval(), path)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("models") / "tissue.safetensors")


@pytest.fixture(scope="module")
def slide_file(tmp_path_factory):
    """A slide of 1280 x 1024 px at 0.25 µm/px: 2 x 1 blocks of the model, 640 x 512 px."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(40, 230, (80, 64, 3), np.uint8).repeat(16, 0).repeat(16, 1)
    path = tmp_path_factory.mktemp("slides") / "case.ome.zarr"
    from napari_wsss.slides import open_slide

    convert_slide(open_slide(pixels, mpp=0.25, name="case"), path)
    return path


@pytest.fixture
def slide(viewer, slide_file):
    # Drawn by software, napari 0.9 crashes when its first layer goes and another is drawn.
    viewer.add_image(np.zeros((2, 2), np.uint8), name="first")
    (layer,) = viewer.open(slide_file, plugin="napari-wsss")
    return layer


@pytest.fixture
def panel(viewer, add_panel, tmp_path):
    state_of(viewer).set(folder=tmp_path / "work")
    panel = add_panel(SegmentPanel)
    panel.form.set_settings(SETTINGS)
    return panel


@pytest.fixture
def ready(panel, slide, model, qtbot):
    """The panel with slide and model, ready to begin."""
    panel.model.path = model
    qtbot.waitUntil(panel.job.button.isEnabled, timeout=WAIT)
    return panel


def run(panel, qtbot):
    with qtbot.waitSignal(panel.job.runner.ended, timeout=WAIT):
        panel.job.button.click()
    settle(panel, qtbot)


def settle(panel, qtbot):
    qtbot.waitUntil(
        lambda: not panel._looker.looking and not panel.job.runner.running, timeout=WAIT
    )


def by_name(viewer, text):
    (found,) = [layer for layer in viewer.layers if text in layer.name]
    return found


def said(panel):
    return panel.job.message.text()


def test_without_slide_or_model_it_says_what_to_do(panel, viewer, qtbot, slide_file, model):
    settle(panel, qtbot)
    assert not panel.job.button.isEnabled()
    assert "drop its file" in said(panel)
    viewer.open(slide_file, plugin="napari-wsss")
    settle(panel, qtbot)
    assert "Train segmenter" in said(panel)
    state_of(viewer).set(segmenter=model)
    qtbot.waitUntil(panel.job.button.isEnabled, timeout=WAIT)
    assert panel.model.path == model
    assert "gland, stroma, fat" in panel.model_text.text()
    assert panel.legend.classes == CLASSES


def test_an_image_that_is_no_slide_is_named(panel, viewer, slide, qtbot):
    viewer.layers.remove(slide)
    assert "first is not an RGB image" in panel.job.message.text()
    assert not panel.job.button.isEnabled()


def test_a_result_is_shown_in_place_summed_up_and_handed_on(ready, viewer, slide, qtbot):
    run(ready, qtbot)
    result = SlideSegmentation.open(ready.folder.path / "case.ome.zarr")
    assert state_of(viewer).result == result.path
    ready.uncertainty.click()
    labels, doubt = by_name(viewer, "segmentation"), by_name(viewer, "uncertainty")
    assert doubt.visible
    np.testing.assert_array_equal(np.asarray(labels.data[0]), result.labels[:])
    np.testing.assert_array_equal(np.asarray(doubt.data[0]), result.uncertainty()[:])
    for layer in (labels, doubt):
        assert layer.units == slide.units
        assert layer.axis_labels == slide.axis_labels
        np.testing.assert_allclose(layer.scale, np.multiply(slide.scale, 2))
        # Outer edges coincide: half a pixel before the centre of the first.
        for a, b in zip(layer.extent.world.T, slide.extent.world.T, strict=True):
            out = np.array([-0.5, 0.5])
            np.testing.assert_allclose(a + layer.scale[0] * out, b + slide.scale[0] * out)
    ready.uncertainty.click()
    assert not doubt.visible
    rows = result.summary()["classes"][1:]
    texts = [row.share.text() for row in ready.legend._rows]
    assert texts == [f"{100 * row['share_of_tissue']:.1f} %" for row in rows]
    assert "Correct" in ready._guide.text()
    assert ready.job.button.text() == "Show result"


def test_the_bytes_are_those_of_the_command_line(ready, slide_file, model, tmp_path, qtbot):
    run(ready, qtbot)
    ours = ready.folder.path / "case.ome.zarr"
    done = CliRunner().invoke(
        app,
        [
            *("segment", str(slide_file), "--model", str(model), "--out", str(tmp_path / "cli")),
            *("--set", "block_px=512", "--set", "tissue_only=false"),
            *("--set", "precision='fp32'", "--quiet"),
        ],
    )
    assert done.exit_code == 0, done.output
    theirs = tmp_path / "cli" / "case.ome.zarr"
    names = sorted(p.relative_to(theirs) for p in theirs.rglob("*") if p.is_file())
    assert sorted(p.relative_to(ours) for p in ours.rglob("*") if p.is_file()) == names
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name


class Gate:
    """Lets so many blocks be stored and then holds the rest until it is opened."""

    def __init__(self, monkeypatch, blocks):
        import threading

        self.open = threading.Event()
        self.left = blocks
        store = pipeline_module.Pipeline._store

        def held(pipeline, *args):
            if self.left <= 0:
                self.open.wait(20)
            self.left -= 1
            return store(pipeline, *args)

        monkeypatch.setattr(pipeline_module.Pipeline, "_store", held)


@pytest.fixture
def held(monkeypatch):
    return Gate(monkeypatch, 1)


def begin(panel, qtbot):
    """Start and wait until the first block is on screen."""
    panel.job.button.click()
    qtbot.waitUntil(lambda: panel._result is not None, timeout=WAIT)
    coarsest = panel._result._levels._coarsest
    qtbot.waitUntil(lambda: bool((coarsest != 255).any()), timeout=WAIT)
    return coarsest


def test_it_fills_in_and_can_be_stopped_and_gone_on_with(ready, viewer, held, qtbot):
    coarsest = begin(ready, qtbot)
    assert (coarsest == 255).any()  # the second block is still to come
    assert np.shares_memory(by_name(viewer, "segmentation").data[-1], coarsest)
    qtbot.waitUntil(lambda: ready.legend._rows[0].share.text() != "", timeout=WAIT)
    with qtbot.waitSignal(ready.job.runner.ended, timeout=WAIT):
        ready.job.button.click()
        held.open.set()
    settle(ready, qtbot)
    assert "Stopped" in said(ready)
    assert state_of(viewer).result is None
    if ready.job.button.text() != "Show result":
        assert ready.job.button.text().startswith("Go on (")
        assert "of 2 blocks done" in ready.job.button.text()
    run(ready, qtbot)
    SlideSegmentation.open(state_of(viewer).result)
    assert sum("segmentation" in layer.name for layer in viewer.layers) == 1


@pytest.mark.parametrize("which", ["slide", "segmentation", "uncertainty", "all"])
def test_layers_may_be_deleted_while_it_runs(ready, viewer, held, qtbot, which):
    begin(ready, qtbot)
    ready.uncertainty.click()
    if which == "all":
        viewer.layers.clear()
    else:
        name = "case" if which == "slide" else which
        viewer.layers.remove(next(a for a in viewer.layers if a.name.endswith(name)))
    held.open.set()
    qtbot.waitUntil(lambda: not ready.job.runner.running, timeout=WAIT)
    settle(ready, qtbot)
    assert ready.job.error.text() == ""
    SlideSegmentation.open(state_of(viewer).result)


def test_the_panel_may_be_closed_while_it_runs_and_the_result_resumed(
    ready, viewer, held, qtbot, model
):
    begin(ready, qtbot)
    runner = ready.job.runner
    viewer.window.remove_dock_widget(ready)
    ready.close()
    held.open.set()
    qtbot.waitUntil(lambda: not runner.running, timeout=WAIT)
    record = json.loads((ready.folder.path / "case.ome.zarr" / "run.json").read_text())
    assert record["slide"]["name"] == "case"


def test_another_slide_while_it_runs_is_looked_at_afterwards(ready, viewer, held, qtbot):
    begin(ready, qtbot)
    other = viewer.add_image(np.full((64, 64, 3), 200, np.uint8), rgb=True, name="photo")
    ready.slide.layer = other
    held.open.set()
    qtbot.waitUntil(lambda: not ready.job.runner.running, timeout=WAIT)
    settle(ready, qtbot)
    assert "Give its µm/px" in said(ready)
    assert not ready.job.button.isEnabled()
    assert ready.shown.text() == "case"


def test_a_layer_of_another_plugin_is_asked_for_its_resolution(panel, viewer, model, qtbot):
    pixels = np.random.default_rng(1).integers(0, 255, (300, 200, 4), np.uint8)
    layer = viewer.add_image(pixels, rgb=True, name="a/b: photo", translate=(10, 20))
    panel.model.path = model
    settle(panel, qtbot)
    assert "Give its µm/px" in said(panel)
    panel.mpp.setValue(0.5)
    qtbot.waitUntil(panel.job.button.isEnabled, timeout=WAIT)
    run(panel, qtbot)
    assert panel.job.error.text() == ""
    labels = by_name(viewer, "segmentation")
    np.testing.assert_allclose(labels.extent.world, layer.extent.world)
    assert state_of(viewer).result.name == "a_b_ photo.ome.zarr"


def test_a_model_without_resolution_is_asked_for_it(panel, slide, tmp_path, qtbot):
    panel.model.path = make_model(tmp_path / "m.safetensors", mpp=None)
    settle(panel, qtbot)
    assert "trained" in said(panel)
    panel.model_mpp.setValue(0.5)
    qtbot.waitUntil(panel.job.button.isEnabled, timeout=WAIT)
    run(panel, qtbot)
    assert panel.job.error.text() == ""


def test_nothing_is_asked_for_before_it_is_known_to_be_missing(panel, model, qtbot):
    fields = (panel.mpp, panel.model_mpp, panel.model_text)
    assert panel._looker.looking
    assert panel._looker.look is None  # the first is still to come
    assert not any(field.isVisible() for field in fields)
    panel.model.path = model
    assert not any(field.isVisible() for field in fields)
    settle(panel, qtbot)
    assert [field.isVisible() for field in fields] == [False, False, True]


def test_a_classifier_gives_the_coarse_result(panel, slide, tmp_path, qtbot, viewer):
    panel.model.path = make_model(tmp_path / "c.safetensors", kind="classifier")
    qtbot.waitUntil(panel.job.button.isEnabled, timeout=WAIT)
    assert "class maps" in panel.model_text.text()
    run(panel, qtbot)
    assert SlideSegmentation.open(state_of(viewer).result).run["model"]["kind"] == "classifier"
    assert state_of(viewer).segmenter is None


def test_damaged_models_are_said_in_the_panel(panel, slide, tmp_path, qtbot, model):
    cut = model.read_bytes()[:-100]
    for i, content in enumerate((b"", b"not a model", cut)):
        path = tmp_path / f"m{i}.safetensors"
        path.write_bytes(content)
        panel.model.path = path
        settle(panel, qtbot)
        assert str(path) in said(panel)
        assert not panel.job.button.isEnabled()


def test_layers_that_are_no_slides(panel, viewer, qtbot, model):
    panel.model.path = model
    for shape, options, text in (
        ((64, 64), {}, "drop its file"),
        ((16, 16, 3), {"rgb": True}, "too small"),
        ((64, 64, 3), {"rgb": True, "rotate": 20}, "rotated"),
        ((4, 64, 64, 3), {"rgb": True}, "dimensions"),
    ):
        layer = viewer.add_image(np.zeros(shape, np.uint8), **options)
        panel.slide.layer = layer
        settle(panel, qtbot)
        assert text in said(panel)
        assert not panel.job.button.isEnabled()


def test_a_result_of_other_settings_is_replaced_only_when_allowed(ready, viewer, qtbot):
    run(ready, qtbot)
    path = state_of(viewer).result
    first = (path / "run.json").read_bytes()
    ready.form.set_settings(SETTINGS.changed(gate=False))
    ready.form.changed.emit()
    settle(ready, qtbot)
    assert not ready.job.button.isEnabled()
    assert "gate was True, is False" in ready.in_the_way.text()
    ready.replace.click()
    assert ready.job.button.isEnabled()
    run(ready, qtbot)
    assert ready.job.error.text() == ""
    assert (path / "run.json").read_bytes() != first
    assert not SlideSegmentation.open(path).run["settings"]["gate"]


def test_a_finished_result_is_simply_shown(ready, viewer, qtbot):
    run(ready, qtbot)
    viewer.layers.remove(by_name(viewer, "segmentation"))
    assert ready.job.button.text() == "Show result"
    ready.job.button.click()
    assert not ready.job.runner.running
    assert by_name(viewer, "segmentation").visible


def test_hidden_classes_are_hidden_on_the_slide(ready, viewer, qtbot):
    run(ready, qtbot)
    labels = by_name(viewer, "segmentation")
    ready.legend._rows[1].shown.click()
    assert labels.colormap.color_dict[2][3] == 0
    assert labels.colormap.color_dict[1][3] == 1
    assert None in labels.colormap.color_dict
    ready.legend._rows[1].shown.click()
    np.testing.assert_allclose(labels.colormap.color_dict[2][:3], CLASSES.rgb[1] / 255, atol=0.01)


@pytest.fixture
def second(viewer, ready):
    """A slide beside the first, opened later."""
    pixels = np.random.default_rng(5).integers(40, 230, (600, 700, 3), np.uint8)
    return viewer.add_image(
        pixels, rgb=True, name="other", scale=(0.5, 0.5), translate=(0, 400), units=("µm", "µm")
    )


def shown(viewer):
    return sorted(layer.name for layer in viewer.layers if "segmentation" in layer.name)


def test_results_of_two_slides_stay_side_by_side(ready, viewer, slide, second, qtbot):
    ready.slide.layer = slide
    qtbot.waitUntil(ready.job.button.isEnabled, timeout=WAIT)
    run(ready, qtbot)
    first = state_of(viewer).result
    ready.slide.layer = second
    qtbot.waitUntil(ready.job.button.isEnabled, timeout=WAIT)
    run(ready, qtbot)
    assert state_of(viewer).result == first.with_name("other.ome.zarr")
    assert shown(viewer) == ["case segmentation", "other segmentation"]
    # Legend, uncertainty and exports are those of the second.
    assert ready.shown.text() == "other"
    ready.legend._rows[1].shown.click()
    hidden = [
        by_name(viewer, f"{name} seg").colormap.color_dict[2][3] for name in ("case", "other")
    ]
    assert hidden == [1, 0]
    ready.uncertainty.click()
    assert by_name(viewer, "uncertainty").name == "other uncertainty"
    with qtbot.waitSignal(ready.exports.job.runner.finished, timeout=WAIT):
        ready.exports.buttons["csv"].click()
    assert first.with_name("other.csv").is_file()
    assert not first.with_name("case.csv").exists()
    # They follow what is selected.
    viewer.layers.selection.active = by_name(viewer, "case seg")
    qtbot.waitUntil(lambda: ready.shown.text() == "case", timeout=WAIT)
    assert state_of(viewer).result == first
    assert ready.exports.folder.isEnabled()
    # The first is asked for again: of its layers there are no two.
    ready.slide.layer = slide
    qtbot.waitUntil(lambda: ready.job.button.text() == "Show result", timeout=WAIT)
    ready.job.button.click()
    assert state_of(viewer).result == first
    assert ready.shown.text() == "case"
    assert shown(viewer) == ["case segmentation", "other segmentation"]
    summary = SlideSegmentation.open(first).summary()["classes"][1:]
    shares = [f"{100 * row['share_of_tissue']:.1f} %" for row in summary]
    assert [row.share.text() for row in ready.legend._rows] == shares


def test_a_run_that_was_stopped_is_not_exported_as_the_one_before(
    ready, viewer, slide, second, qtbot, monkeypatch
):
    ready.slide.layer = slide
    qtbot.waitUntil(ready.job.button.isEnabled, timeout=WAIT)
    run(ready, qtbot)
    assert ready.exports.folder.isEnabled()
    held = Gate(monkeypatch, 1)
    ready.slide.layer = second
    qtbot.waitUntil(ready.job.button.isEnabled, timeout=WAIT)
    ready.job.button.click()
    qtbot.waitUntil(lambda: ready.shown.text() == "other", timeout=WAIT)
    with qtbot.waitSignal(ready.job.runner.ended, timeout=WAIT):
        ready.job.button.click()
        held.open.set()
    settle(ready, qtbot)
    assert ready.exports.folder.isEnabled() == (state_of(viewer).result.name == "other.ome.zarr")


def test_exports_are_one_click_and_never_over_a_file(ready, viewer, qtbot):
    run(ready, qtbot)
    for kind, suffix in (("geojson", ".geojson"), ("csv", ".csv"), ("picture", ".png")):
        for name in (f"case{suffix}", f"case-2{suffix}"):
            with qtbot.waitSignal(ready.exports.job.runner.finished, timeout=WAIT):
                ready.exports.buttons[kind].click()
            file = state_of(viewer).result.parent / name
            assert file.stat().st_size > 0
            assert str(file) in ready.exports.job.message.text()


def test_two_viewers_are_apart(ready, qtbot, make_napari_viewer_proxy):
    other = SegmentPanel(make_napari_viewer_proxy())
    qtbot.addWidget(other)
    run(ready, qtbot)
    assert other.state.result is None
    assert other._result is None
    other.close_panel()


def test_three_dimensions_and_stacks_beside_the_slide(ready, viewer, qtbot):
    viewer.add_image(np.zeros((3, 4, 50, 50), np.uint8), name="stack")
    viewer.dims.ndisplay = 3
    run(ready, qtbot)
    assert ready.job.error.text() == ""
    viewer.dims.ndisplay = 2
    assert by_name(viewer, "segmentation").ndim == 2


#: What `prepare_slowly` prepared, and whether it may end by itself.
PREPARED, MAY_END = [], threading.Event()


def prepare_slowly(slide, inputs, *, cancel):
    PREPARED.append(inputs.model.stem)
    while not MAY_END.is_set():
        cancel.raise_if_cancelled()
        time.sleep(0.005)
        yield Log("waiting")
    PREPARED.append("ready")


def test_it_gets_ready_while_one_looks_and_gives_up_for_other_inputs(
    ready, tmp_path, qtbot, monkeypatch
):
    qtbot.waitUntil(lambda: not ready._preparer.running, timeout=WAIT)
    monkeypatch.setattr(segment_jobs, "_prepare", prepare_slowly)
    ready.model.path = make_model(tmp_path / "second.safetensors")
    qtbot.waitUntil(lambda: PREPARED == ["second"], timeout=WAIT)
    ready.model.path = make_model(tmp_path / "third.safetensors")
    qtbot.waitUntil(lambda: PREPARED == ["second", "third"], timeout=WAIT)
    MAY_END.set()
    qtbot.waitUntil(lambda: PREPARED == ["second", "third", "ready"], timeout=WAIT)
    qtbot.waitUntil(lambda: not ready._preparer.running, timeout=WAIT)
    assert ready.job.error.text() == ""
