"""The panel of class maps, used as a person would."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from qtpy.QtCore import Qt

from napari_wsss.cams import PseudoMasks, generate_pseudo_masks, read_region
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.inference import map_slide
from napari_wsss.jobs import Log, Progress
from napari_wsss.models import Classifier, ModelInfo, Segmenter, load_classifier, save_model
from napari_wsss.panels.cams import CamPanel
from napari_wsss.panels.cams_cells import region_options
from napari_wsss.panels.support.live import Place
from napari_wsss.panels.support.state import state_of
from napari_wsss.patches import load_patches
from napari_wsss.settings import EncoderSettings, PseudoMaskSettings
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(
    ["gland", "stroma", "fat"], values=[0, 1, 2], colors=["#d55e00", "#009e73", "#0072b2"]
)
LABELS = ("101", "010", "110", "111")
WAIT = 20_000


def make_model(path: Path, *, names=CLASSES.names, kind="classifier", mpp=1.0) -> Path:
    torch.manual_seed(0)
    info = ModelInfo(
        kind=kind,
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture={} if kind == "classifier" else {"decoder_channels": 16},
        classes=ClassTable.from_names(names).to_dict(),
        patch_size_px=48,
        mpp=mpp,
    )
    model = {"classifier": Classifier, "segmenter": Segmenter}[kind](info)
    if kind == "classifier":
        torch.nn.init.normal_(model.heads[0].weight, std=1.0)
    return save_model(model.eval(), path)


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "tissue.safetensors")


@pytest.fixture
def patches(tmp_path):
    root = tmp_path / "set"
    (root / "masks").mkdir(parents=True)
    rows = [f"path,{','.join(CLASSES.names)}"]
    for i, row in enumerate(LABELS):
        rng = np.random.default_rng(i)
        pixels = rng.integers(60, 180, (48, 48, 3), np.uint8)
        pixels[:, 24:, i % 3] //= 3
        Picture.fromarray(pixels).save(root / f"p{i}.png")
        mask = np.full((48, 48), row.index("1"), np.uint8)
        mask[:, 24:] = row.rindex("1")
        Picture.fromarray(mask).save(root / f"masks/p{i}.png")
        rows.append(f"p{i}.png,{','.join(row)}")
    (root / "labels.csv").write_text("\n".join(rows))
    CLASSES.write(root / "classes.toml")
    return load_patches(root, masks=root / "masks")


@pytest.fixture
def pixels():
    """Blocks of 4 px of random colour: any shift of half a pixel would show."""
    blocks = np.random.default_rng(1).integers(0, 220, (64, 80, 3), np.uint8)
    return blocks.repeat(4, 0).repeat(4, 1)


@pytest.fixture
def viewer(viewer):
    viewer.add_image(np.zeros((2, 2), np.uint8), name="first", units=("µm", "µm"))
    viewer.window.resize(760, 500)  # drawn by software, every pixel costs
    return viewer


def names_in(viewer):
    """Return the names of the layers a user knows of."""
    return [layer.name for layer in viewer.layers if layer.name != "first"]


@pytest.fixture
def slide(viewer, pixels):
    layer = viewer.add_image(
        pixels, rgb=True, name="slide", scale=(0.5, 0.5), translate=(10, 20), units=("µm", "µm")
    )
    viewer.layers.selection.clear()
    return layer


@pytest.fixture
def ready(viewer, add_panel, model, patches, tmp_path, qtbot):
    """The panel with classifier and data set."""
    state_of(viewer).set(patch_set=patches, classifier=model, folder=tmp_path / "work")
    panel = add_panel(CamPanel)
    qtbot.waitUntil(lambda: panel.look.button.isEnabled(), timeout=WAIT)
    return panel


def show(panel, qtbot):
    panel.look.button.click()
    qtbot.waitUntil(lambda: panel.grid.showing and not panel.look.runner.running, timeout=WAIT)


def mask_layer(panel):
    return panel.grid.over(len(CLASSES))


def choose(panel, kind):
    panel.kind.setCurrentIndex(kind)


def edges(layer):
    """Return (2, 2): where the outer edges of a layer's pixels lie in the world."""
    shape = (layer.data[0] if layer.multiscale else layer.data).shape[:2]
    corners = np.array([(-0.5, -0.5), np.subtract(shape, 0.5)])
    return np.array([layer.data_to_world(corner) for corner in corners])


# -- what is missing ----------------------------------------------------------------------


def test_it_says_what_is_missing_and_disables_what_cannot_work(viewer, add_panel, model, qtbot):
    panel = add_panel(CamPanel)
    assert "Choose a classifier" in panel.look.message.text()
    assert not panel.look.button.isEnabled()
    assert not panel.masks.work.button.isEnabled()
    panel.classifier.path = model
    qtbot.waitUntil(lambda: "Load a data set" in panel.look.message.text(), timeout=WAIT)
    assert state_of(viewer).classifier == model
    choose(panel, 1)
    assert "Open a slide first" in panel.look.message.text()
    choose(panel, 2)
    assert not panel.whole.work.button.isEnabled()
    assert "Open a slide first" in panel.whole.work.message.text()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: make_model(p, names=("a", "b")), "the data set has gland, stroma, fat"),
        (lambda p: make_model(p, kind="segmenter"), "needs? a classifier|is a segmenter"),
        (lambda p: p.write_bytes(b"no model") and p, "not a model"),
    ],
)
def test_models_that_do_not_fit_are_told(
    viewer, add_panel, patches, tmp_path, qtbot, make, reason
):
    import re

    panel = add_panel(CamPanel)
    state_of(viewer).set(patch_set=patches)
    panel.classifier.path = make(tmp_path / "other.safetensors")
    qtbot.waitUntil(lambda: bool(re.search(reason, panel.look.message.text())), timeout=WAIT)
    assert not panel.look.button.isEnabled()
    assert not panel.masks.work.button.isEnabled()


def test_layers_that_are_no_slide_are_told(viewer, ready):
    choose(ready, 1)
    viewer.add_image(np.zeros((64, 64)), name="grey")
    assert ready.slides.layer is None
    viewer.add_image(np.zeros((20, 20, 3), np.uint8), rgb=True, name="small")
    assert "too small" in ready.look.message.text()
    plain = viewer.add_image(np.zeros((64, 64, 3), np.uint8), rgb=True, name="plain")
    ready.slides.chooser.layer = plain
    assert "how many µm" in ready.look.message.text()
    ready.slides.slide_mpp.setValue(0.5)
    assert "Draw a region" in ready.look.message.text()


# -- patches ------------------------------------------------------------------------------


def test_a_patch_is_shown_class_by_class(viewer, ready, patches, qtbot):
    show(ready, qtbot)
    found = ready._found.explanation
    assert ready.patches.index == 0  # the first of several classes
    overs = [ready.grid.over(i) for i in range(5)]
    titles = [f"{n} ({p:.2f})" for n, p in zip(CLASSES.names, found.probabilities, strict=True)]
    assert [a.name for a in overs] == [*titles, "pseudo mask", "depths agree"]
    for k in range(3):
        np.testing.assert_array_equal(overs[k].data, found.maps[-1, k])
        np.testing.assert_array_equal(ready.grid.layers[2 * k].data, patches.read(0))
    for k, info in enumerate(CLASSES.classes):
        color = overs[3].colormap.color_dict[k + 1]
        np.testing.assert_allclose(color[:3] * 255, info.rgb, atol=1)
    np.testing.assert_allclose(overs[4].data, found.agreement)


def test_the_slider_moves_the_mask_and_nothing_is_computed(ready, qtbot, monkeypatch):
    show(ready, qtbot)
    found = ready._found.explanation
    monkeypatch.setattr(Classifier, "features", lambda *_: pytest.fail("computed again"))
    kept = []
    for threshold in (0.0, 0.3, 0.6, 1.0):
        ready.view.threshold.setValue(threshold)
        expected = found.pseudo_mask(3, threshold)
        shown = mask_layer(ready).data
        np.testing.assert_array_equal(shown, np.where(expected == 255, 0, expected + 1))
        kept.append(int((shown > 0).sum()))
    assert kept[0] == 48 * 48
    assert kept == sorted(kept, reverse=True)
    assert kept[-1] < kept[0]
    ready.view.depth_box.setCurrentIndex(0)
    np.testing.assert_array_equal(ready.grid.over(1).data, found.maps[0, 1])
    np.testing.assert_array_equal(mask_layer(ready).data > 0, found.pseudo_mask(0, 1.0) != 255)


def test_next_shows_the_next_and_the_last_of_many_wins(ready, patches, qtbot):
    show(ready, qtbot)
    assert ready.patches.number.maximum() == 3  # of several classes
    ready.patches.forward.click()
    ready.patches.forward.click()
    qtbot.waitUntil(
        lambda: ready._found.name == "p3" and not ready.look.runner.running, timeout=WAIT
    )
    np.testing.assert_array_equal(ready.grid.layers[0].data, patches.read(3))
    ready.patches.name.setText("p1")
    ready.patches.name.editingFinished.emit()
    assert not ready.patches.several.isChecked()
    qtbot.waitUntil(lambda: ready._found.name == "p1", timeout=WAIT)
    assert (mask_layer(ready).data == 2).all()
    qtbot.waitUntil(lambda: "One class only" in ready.view.text.text())


def test_the_mask_of_a_patch_is_measured(ready, patches, qtbot):
    show(ready, qtbot)
    qtbot.waitUntil(lambda: "mean IoU by depth" in ready.view.text.text())
    values = ready._found.explanation.miou(patches.read_mask(0))
    assert f"fused: {values[-1]:.2f}" in ready.view.text.text()


# -- layout -------------------------------------------------------------------------------


def test_another_tab_gets_the_users_layout_and_back_again(viewer, slide, ready, qtbot):
    show(ready, qtbot)
    assert not slide.visible
    ready.hide()
    assert names_in(viewer) == ["slide"]
    assert slide.visible
    assert not viewer.canvas.grid.enabled
    ready.show()
    qtbot.waitUntil(lambda: ready.grid.showing)
    viewer.canvas.grid.enabled = False
    assert slide.visible
    ready.hide()
    ready.show()
    assert not ready.grid.showing  # it had been left


def test_layers_deleted_meanwhile_do_no_harm(viewer, slide, ready, qtbot):
    show(ready, qtbot)
    ready.patches.forward.click()
    viewer.layers.selection = {slide, *ready.grid.layers}
    viewer.layers.remove_selected()
    qtbot.waitUntil(lambda: not ready.look.runner.running, timeout=WAIT)
    ready.view.threshold.setValue(0.4)
    ready.view.depth_box.setCurrentIndex(1)
    qtbot.wait(200)
    assert ready.look.error.text() == ""


def test_closing_in_the_middle_leaves_nothing_behind(viewer, slide, ready, qtbot):
    show(ready, qtbot)
    ready.patches.forward.click()
    assert ready.look.runner.running
    ready.close()
    assert names_in(viewer) == ["slide"]
    qtbot.waitUntil(lambda: not ready.look.runner.running, timeout=WAIT)
    qtbot.wait(20)
    assert names_in(viewer) == ["slide"]


# -- errors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (RuntimeError("CUDA error: misaligned address"), "misaligned"),
        (DataError("p0.png: the image is damaged."), "damaged"),
        (KeyError("what"), "unexpected"),
    ],
)
def test_errors_of_the_thread_stay_readable(ready, qtbot, monkeypatch, error, text):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("napari_wsss.cams.masks.depth_maps", broken)
    ready.look.button.click()
    qtbot.waitUntil(lambda: bool(ready.look.error.text()), timeout=WAIT)
    assert text in ready.look.error.text()
    assert not ready.look.runner.running
    assert not ready.grid.showing
    monkeypatch.undo()
    show(ready, qtbot)
    assert ready.look.error.text() == ""


# -- regions ------------------------------------------------------------------------------


def draw(panel, slide, top, left, bottom, right):
    """Drag a rectangle given in pixels of the slide, as napari tells of it."""
    choose(panel, 1)
    panel.region.button.click()
    callback = panel.viewer.mouse_drag_callbacks[-1]
    assert not panel.viewer.scene.camera.mouse_pan
    event = SimpleNamespace(type="mouse_press", position=slide.data_to_world((bottom, left)))
    drag = callback(panel.viewer, event)
    next(drag)
    for share in (0.5, 1.0):
        y, x = bottom + share * (top - bottom), left + share * (right - left)
        event.type, event.position = "mouse_move", slide.data_to_world((y, x))
        next(drag)
    event.type = "mouse_release"
    assert next(drag, None) is None
    assert callback not in panel.viewer.mouse_drag_callbacks
    assert panel.viewer.scene.camera.mouse_pan


def test_a_region_lies_pixel_for_pixel_on_its_slide(viewer, slide, ready, qtbot, pixels):
    draw(ready, slide, 31.5, 63.5, 191.5, 223.5)
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    under, over = ready.grid.layers[:2]
    assert under.data.shape == (80, 80, 3)  # half the resolution
    assert tuple(over.scale) == tuple(under.scale) == (1.0, 1.0)
    for layer in ready.grid.layers:
        np.testing.assert_allclose(edges(layer), edges(under))
    drawn = [slide.data_to_world(p) for p in ((31.5, 63.5), (191.5, 223.5))]
    np.testing.assert_allclose(edges(under), drawn)


def test_a_region_is_drawn_where_its_slide_is(viewer, slide, pixels, qtbot):
    region = read_region(open_slide([pixels], mpp=0.5), 1.0, 32, 64, 160, 160)
    options = region_options(region, Place.of(slide))
    middle = np.array(options["translate"]) + 79 / 2  # of 80 x 80 px of 1 µm
    viewer.scene.camera.center, viewer.scene.camera.zoom = (0, *middle), 12
    shots = []
    for over in (False, True):
        if over:
            viewer.add_image(region.image, rgb=True, **options)
        qtbot.wait(100)
        shots.append(viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int))
    height, width = shots[0].shape[:2]
    part = np.s_[height // 2 - 150 : height // 2 + 150, width // 2 - 150 : width // 2 + 150]
    first, second = (shot[part].sum(2) for shot in shots)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.8
    # Half a pixel of the slide is 3 pixels of this picture, half a one of the region 6.
    assert max(np.abs(shift_between(first, second))) <= 1


def shift_between(first, second, most=7):
    """Return (dy, dx) by which `second` must be moved to be most like `first`."""
    inner = np.s_[most:-most, most:-most]

    def likeness(shift):
        moved = np.roll(second, shift, (0, 1))
        return np.corrcoef(first[inner].ravel(), moved[inner].ravel())[0, 1]

    shifts = [(y, x) for y in range(-most, most + 1) for x in range(-most, most + 1)]
    return max(shifts, key=likeness)


def test_the_classes_of_a_region_can_be_chosen(viewer, slide, ready, qtbot):
    draw(ready, slide, 20, 20, 120, 140)
    qtbot.waitUntil(lambda: ready.grid.showing, timeout=WAIT)
    for k in range(3):
        item = ready.view.table.item(k, 0)
        if item.checkState() == Qt.CheckState.Unchecked:
            item.setCheckState(Qt.CheckState.Checked)
            break
    else:
        ready.view.table.item(0, 0).setCheckState(Qt.CheckState.Unchecked)
    wanted = ready.view.label
    qtbot.waitUntil(
        lambda: (ready._found.explanation.label == wanted).all() and not ready.look.runner.running,
        timeout=WAIT,
    )
    assert set(np.unique(mask_layer(ready).data)) - {0} <= set(np.flatnonzero(wanted) + 1)


def test_a_region_that_is_too_small_is_told(viewer, slide, ready, qtbot):
    draw(ready, slide, 20, 20, 30, 30)
    qtbot.waitUntil(lambda: "5 x 5 px" in ready.look.error.text(), timeout=WAIT)
    assert slide.visible


# -- whole slides -------------------------------------------------------------------------


def test_a_whole_slide_is_mapped_and_opened(viewer, slide, ready, model, pixels, tmp_path, qtbot):
    choose(ready, 2)
    ready.whole.folder.path = tmp_path / "maps"
    ready.whole.work.button.click()
    qtbot.waitUntil(
        lambda: ready.grid.showing and not ready.whole.work.runner.running, timeout=WAIT
    )
    assert "Finished" in ready.whole.work.message.text()
    expected = map_slide(
        open_slide([pixels], mpp=0.5, name="slide"), load_classifier(model), tmp_path / "alone"
    )
    assert [ready.grid.over(k).name for k in range(3)] == list(CLASSES.names)
    for k in range(3):
        under, over = ready.grid.layers[2 * k : 2 * k + 2]
        shown = np.asarray(over.data[0] if over.multiscale else over.data)
        np.testing.assert_allclose(shown, np.asarray(expected.maps[k]) / 254, atol=1e-6)
        # Half the resolution: the same rectangle of the world, so half a pixel further in.
        np.testing.assert_allclose(edges(over), edges(under))
        np.testing.assert_allclose(over.translate, under.translate + 0.25)
    ready.whole.keep.click()
    assert not ready.grid.showing
    assert slide.visible
    assert len(names_in(viewer)) == 1 + 3


def test_a_cancelled_map_is_kept_and_goes_on(viewer, ready, model, tmp_path, qtbot, monkeypatch):
    monkeypatch.setattr("napari_wsss.settings.InferenceSettings.block_side", lambda *_: 512)
    pixels = np.random.default_rng(0).integers(0, 200, (1100, 1100, 3), np.uint8)
    viewer.add_image(pixels, rgb=True, name="big", scale=(1, 1), units=("µm", "µm"))
    choose(ready, 2)
    ready.whole.folder.path = tmp_path / "maps"
    runner = ready.whole.work.runner
    stopped = []

    def stop(event):
        if isinstance(event, Progress) and event.stage == "Maps" and not stopped:
            stopped.append(event)
            runner.cancel()

    # In the thread itself: this network is done before the screen hears of it.
    runner.event.connect(stop, Qt.ConnectionType.DirectConnection)
    ready.whole.work.button.click()
    qtbot.waitUntil(lambda: bool(stopped) and not runner.running, timeout=WAIT)
    assert "Stopped" in ready.whole.work.message.text()
    said = []
    runner.event.connect(lambda e: said.append(e.message) if isinstance(e, Log) else None)
    ready.whole.work.button.click()
    # The layer may go: what is computed comes from its arrays.
    viewer.layers.remove("big")
    qtbot.waitUntil(lambda: not runner.running, timeout=WAIT)
    assert "Finished" in ready.whole.work.message.text(), ready.whole.work.error.text()
    assert any("are done" in text for text in said)
    alone = map_slide(
        open_slide([pixels], mpp=1.0, name="big"), load_classifier(model), tmp_path / "alone"
    )
    again = tmp_path / "maps" / "big-maps.ome.zarr"
    assert (again / "checksums.json").read_bytes() == (alone.path / "checksums.json").read_bytes()


# -- pseudo masks -------------------------------------------------------------------------


def test_pseudo_masks_are_made_as_on_the_command_line(
    viewer, ready, patches, model, tmp_path, qtbot
):
    ready.view.threshold.setValue(0.3)
    assert ready.masks.folder.path == tmp_path / "work" / "set-pseudo-masks"
    assert not ready.masks.measuring.button.isEnabled()
    ready.masks.work.button.click()
    qtbot.waitUntil(lambda: state_of(viewer).pseudo_masks is not None, timeout=WAIT)
    made = PseudoMasks(state_of(viewer).pseudo_masks)
    alone = generate_pseudo_masks(
        patches, load_classifier(model), tmp_path / "alone", PseudoMaskSettings(threshold=0.3)
    )
    for name in patches.names:
        np.testing.assert_array_equal(made.targets(name), alone.targets(name))
    assert made.record["settings"]["threshold"] == 0.3
    assert "Train segmenter" in ready._guide.text()

    ready.masks.measuring.button.click()
    qtbot.waitUntil(lambda: ready.masks.table.rowCount() == 3, timeout=WAIT)
    from napari_wsss.cams import pseudo_mask_quality

    rows = pseudo_mask_quality(alone, patches)["depths"]
    for d, row in enumerate(rows):
        assert ready.masks.table.item(d, 1).text() == f"{row['miou_multi_label']:.3f}"


def test_pseudo_masks_that_exist_are_not_replaced(ready, qtbot):
    folder = ready.masks.folder.path
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    ready.masks.work.button.click()
    qtbot.waitUntil(lambda: "exists" in ready.masks.work.error.text(), timeout=WAIT)
    assert (folder / "thesis.txt").read_text() == "mine"
