"""What the tests of the class map panel share: a classifier, a data set, a slide, the panel."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, ModelInfo, Segmenter, save_model
from napari_wsss.panels.cams import CamPanel
from napari_wsss.panels.support.state import state_of
from napari_wsss.patches import load_patches
from napari_wsss.settings import EncoderSettings

CLASSES = ClassTable.from_names(
    ["gland", "stroma", "fat"], values=[0, 1, 2], colors=["#d55e00", "#009e73", "#0072b2"]
)
LABELS = ("101", "010", "110", "111")
WAIT = 20_000


def make_model(
    path: Path, *, names=CLASSES.names, kind="classifier", mpp=1.0, **architecture
) -> Path:
    torch.manual_seed(0)
    info = ModelInfo(
        kind=kind,
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture=architecture if kind == "classifier" else {"decoder_channels": 16},
        classes=ClassTable.from_names(names).to_dict(),
        patch_size_px=48,
        mpp=mpp,
    )
    model = {"classifier": Classifier, "segmenter": Segmenter}[kind](info)
    if kind == "classifier":
        for head in model.heads:
            torch.nn.init.normal_(head.weight, std=1.0)
        if model.joint is not None:
            torch.nn.init.normal_(model.joint.classes.weight, std=15.0)  # sure here, not there
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


@pytest.fixture(name="make_model")
def _make_model():
    return make_model


@pytest.fixture(name="show")
def _show():
    return show


@pytest.fixture(name="choose")
def _choose():
    return choose


@pytest.fixture(name="edges")
def _edges():
    return edges


@pytest.fixture(name="names_in")
def _names_in():
    return names_in


@pytest.fixture(name="mask_layer")
def _mask_layer():
    return mask_layer


@pytest.fixture(name="draw")
def _draw():
    return draw
