"""Class maps of a whole slide at the depth that is chosen."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from typer.testing import CliRunner

from napari_wsss.cams.explanation import FUSED
from napari_wsss.classes import ClassTable
from napari_wsss.cli.app import app
from napari_wsss.inference import map_slide
from napari_wsss.jobs import Progress
from napari_wsss.models import ModelInfo, load_classifier
from napari_wsss.panels.cams_depth import map_choices
from napari_wsss.settings import EncoderSettings
from napari_wsss.slides import open_slide

WAIT = 20_000
HEADED = {"deep_supervision": True}
JOINT = "Joint head, of all depths"


def info_of(**architecture):
    return ModelInfo(
        kind="classifier",
        encoder=EncoderSettings(),
        architecture=architecture,
        classes=ClassTable.from_names(["a", "b"]).to_dict(),
        patch_size_px=48,
    )


@pytest.fixture
def whole(ready, tmp_path, choose, make_model, qtbot):
    """The box for whole slides, with a classifier that has a head at every depth."""
    ready.classifier.path = make_model(tmp_path / "headed.safetensors", **HEADED)
    qtbot.waitUntil(lambda: ready.header.info is not None, timeout=WAIT)
    choose(ready, 2)
    ready.whole.folder.path = tmp_path / "maps"
    return ready.whole


def run(whole, qtbot):
    with qtbot.waitSignal(whole.work.runner.finished, timeout=WAIT):
        whole.work.button.click()
    qtbot.waitUntil(lambda: not whole.work.runner.running, timeout=WAIT)


def switch(whole, name):
    at = whole._maps.box.findText(name)
    assert at >= 0
    whole._maps.box.setCurrentIndex(at)


def evidence(panel, k):
    layer = panel.grid.over(k)
    return np.asarray(layer.data[0] if layer.multiscale else layer.data)


def files(path):
    names = [p for p in path.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in names}


# -- which there are -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ({}, ["-Depth 1 (shallowest)", "-Depth 2", "Depth 3 (deepest)*", "-All depths, fused"]),
        (HEADED, ["Depth 1 (shallowest)", "Depth 2", "Depth 3 (deepest)", "All depths, fused*"]),
        (
            {"joint_head": 8},
            [f"{JOINT}*", "-Depth 1 (shallowest)", "-Depth 2", "Depth 3 (deepest)"],
        ),
        (
            {"depths": [-2, -1], "joint_head": 8, **HEADED},
            [f"{JOINT}*", "Depth 1 (shallowest)", "Depth 2 (deepest)"],
        ),
        ({"depths": [-1]}, ["Depth 1*"]),
    ],
)
def test_depths_are_those_whose_maps_one_pass_gives(architecture, expected):
    """``-``: cannot be had; ``*``: the classifier's own."""
    found = map_choices(info_of(**architecture), whole=True)
    marked = [
        f"{'' if c.possible else '-'}{c.name}{'*' if c.depth is None and c.possible else ''}"
        for c in found
    ]
    assert marked == expected


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ({}, [("Depth 1 (shallowest)", "gradcam", 0), ("All depths, fused", "gradcam", FUSED)]),
        ({"depths": [-1]}, [("Depth 1", "gradcam", 0), ("Depth 1", "gradcam", 0)]),
        ({"joint_head": 8}, [(JOINT, "joint", 0), ("All depths, fused", "gradcam", FUSED)]),
        (
            HEADED,
            [("Depth 1 (shallowest)", "heads", 0), ("Grad-CAM, all depths, fused", "gradcam", -1)],
        ),
        (
            {"joint_head": 8, **HEADED},
            [(JOINT, "joint", 0), ("Grad-CAM, all depths, fused", "gradcam", FUSED)],
        ),
    ],
)
def test_of_a_patch_all_maps_are_offered(architecture, expected):
    """The first and the last of them; each once."""
    found = map_choices(info_of(**architecture))
    assert all(choice.possible for choice in found)
    assert [(c.name, *c.made) for c in (found[0], found[-1])] == expected
    assert len({c.made for c in found}) == len({c.name for c in found}) == len(found)


def test_depths_that_cannot_be_had_say_why(slide, ready, choose):
    choose(ready, 2)
    maps = ready.maps
    items = maps.box.model()
    able = [items.item(i).isEnabled() for i in range(maps.box.count())]
    assert able == [False, False, True, False]
    assert "gradients" in items.item(0).toolTip()
    assert maps.note.isVisible()
    assert "Look at a region" in maps.note.text()
    assert (maps.chosen.name, maps.chosen.depth) == ("Depth 3 (deepest)", None)
    assert ready.whole.work.button.isEnabled() is (ready.whole.folder.path is not None)


def test_another_classifier_keeps_the_depth_if_it_can(whole, ready, model, qtbot, tmp_path):
    maps = ready.maps
    assert maps.chosen.name == "All depths, fused"
    assert not maps.note.isVisible()
    switch(whole, "Depth 2")
    maps.set_info(info_of(depths=[-2, -1], **HEADED), "heads")
    assert maps.chosen.depth == 2
    maps.set_info(info_of(), "gradcam")
    assert maps.chosen.depth is None
    maps.set_info(None, "")
    assert maps.chosen is None
    assert not maps.box.isEnabled()


# -- making them -----------------------------------------------------------------------------


def test_panel_command_line_and_python_give_the_same_bytes(
    viewer, ready, whole, pixels, tmp_path, qtbot
):
    path = tmp_path / "case.tif"
    tifffile.imwrite(path, pixels, tile=(128, 128), photometric="rgb")
    viewer.open(str(path), plugin="napari-wsss")
    ready.slides.slide_mpp.setValue(0.5)
    switch(whole, "Depth 2")
    run(whole, qtbot)
    name = "case-maps-depth-2.ome.zarr"
    panel = files(tmp_path / "maps" / name)

    done = CliRunner().invoke(
        app,
        [
            *("maps", str(path), "--classifier", str(ready.classifier.path)),
            *("--out", str(tmp_path / "cli"), "--depth", "2", "--mpp", "0.5", "--quiet"),
        ],
    )
    assert done.exit_code == 0, done.output
    with open_slide(path, mpp=0.5) as slide:
        alone = map_slide(
            slide, load_classifier(ready.classifier.path), tmp_path / "python", depth=2
        )
    assert alone.path.name == name
    assert panel == files(alone.path) == files(tmp_path / "cli" / name)


def test_maps_that_exist_are_shown_when_one_switches(
    viewer, slide, ready, whole, pixels, tmp_path, qtbot
):
    opened = open_slide([pixels], mpp=0.5, name="slide")
    model = load_classifier(ready.classifier.path)
    # Of an earlier session; depth 3 by another classifier.
    first = map_slide(opened, model, tmp_path / "maps", depth=1)
    run(whole, qtbot)
    own = map_slide(opened, model, tmp_path / "maps")
    shutil.copytree(own.path, tmp_path / "maps" / "slide-maps-depth-3.ome.zarr")

    viewer.scene.camera.zoom = before = viewer.scene.camera.zoom * 1.5
    for name, maps in (
        ("Depth 1 (shallowest)", first),
        ("All depths, fused", own),
        ("Depth 1 (shallowest)", first),
    ):
        switch(whole, name)
        qtbot.waitUntil(
            lambda maps=maps: whole.shown is not None and whole.shown.path == maps.path,
            timeout=WAIT,
        )
        for k in range(3):
            np.testing.assert_allclose(evidence(ready, k), maps.maps[k] / 254, atol=1e-6)
        qtbot.waitUntil(lambda: "Finished" in whole.work.message.text(), timeout=WAIT)
        assert whole.keep.isVisible()
        assert viewer.scene.camera.zoom == before, "the place one looks at stays"
    switch(whole, "All depths, fused")
    assert whole.shown.path == own.path, "what was seen before is there in the same moment"
    for name in ("Depth 2", "Depth 3 (deepest)"):
        switch(whole, name)
        text = f"{name}: no maps yet."
        qtbot.waitUntil(lambda text=text: text in whole.work.message.text(), timeout=WAIT)
        assert not ready.grid.showing
        assert slide.visible
        assert not whole.keep.isVisible()
    assert whole.work.error.text() == ""


def test_a_run_goes_on_while_one_looks_at_another_depth(
    viewer, ready, whole, tmp_path, qtbot, monkeypatch
):
    monkeypatch.setattr("napari_wsss.settings.InferenceSettings.block_side", lambda *_: 512)
    pixels = np.random.default_rng(0).integers(0, 200, (1100, 1100, 3), np.uint8)
    viewer.add_image(pixels, rgb=True, name="big", scale=(1, 1), units=("µm", "µm"))
    switch(whole, "Depth 1 (shallowest)")
    run(whole, qtbot)
    first = whole.shown.path
    runner, held = whole.work.runner, []

    def hold(event):
        """In the thread of the run: wait until the user has looked elsewhere and come back."""
        if isinstance(event, Progress) and event.stage == "Maps" and not held:
            held.append(event)
            looked.wait(WAIT / 1000)

    looked = threading.Event()
    runner.event.connect(hold, Qt.ConnectionType.DirectConnection)
    switch(whole, "Depth 2")
    qtbot.waitUntil(lambda: "no maps yet" in whole.work.message.text(), timeout=WAIT)
    whole.work.button.click()
    qtbot.waitUntil(lambda: bool(held) and whole.shown is not None, timeout=WAIT)
    growing = whole.shown.path
    try:
        switch(whole, "Depth 1 (shallowest)")
        qtbot.waitUntil(lambda: whole.shown.path == first, timeout=WAIT)
        switch(whole, "Depth 3 (deepest)")
        qtbot.waitUntil(lambda: "once this run is over" in whole.work.message.text(), timeout=WAIT)
        switch(whole, "Depth 2")
        assert whole.shown.path == growing
        assert ready.grid.showing
    finally:
        looked.set()
    qtbot.waitUntil(lambda: not runner.running, timeout=WAIT)
    assert whole.keep.isVisible()
    assert "Finished: big-maps-depth-2" in whole.work.message.text()
    assert (evidence(ready, 0) > 0).any()


def test_maps_that_were_begun_are_shown_as_such(
    viewer, ready, whole, tmp_path, qtbot, monkeypatch
):
    monkeypatch.setattr("napari_wsss.settings.InferenceSettings.block_side", lambda *_: 512)
    pixels = np.random.default_rng(0).integers(0, 200, (1100, 1100, 3), np.uint8)
    viewer.add_image(pixels, rgb=True, name="big", scale=(1, 1), units=("µm", "µm"))
    runner, stopped = whole.work.runner, []

    def stop(event):
        if isinstance(event, Progress) and event.stage == "Maps" and not stopped:
            stopped.append(event)
            runner.cancel()

    runner.event.connect(stop, Qt.ConnectionType.DirectConnection)
    switch(whole, "Depth 3 (deepest)")
    qtbot.waitUntil(lambda: "no maps yet" in whole.work.message.text(), timeout=WAIT)
    whole.work.button.click()
    qtbot.waitUntil(lambda: bool(stopped) and not runner.running, timeout=WAIT)
    switch(whole, "Depth 2")
    qtbot.waitUntil(lambda: "no maps yet" in whole.work.message.text(), timeout=WAIT)
    switch(whole, "Depth 3 (deepest)")
    qtbot.waitUntil(lambda: "not finished" in whole.work.message.text(), timeout=WAIT)
    assert ready.grid.showing
    assert not whole.keep.isVisible()
    run(whole, qtbot)
    assert whole.keep.isVisible()
