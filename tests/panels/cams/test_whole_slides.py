"""Class maps of whole slides."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import Qt

from napari_wsss.classes import ClassTable
from napari_wsss.inference import map_slide
from napari_wsss.jobs import Log, Progress
from napari_wsss.models import load_classifier
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(
    ["gland", "stroma", "fat"], values=[0, 1, 2], colors=["#d55e00", "#009e73", "#0072b2"]
)
WAIT = 20_000


def test_a_whole_slide_is_mapped_and_opened(
    viewer, slide, ready, model, pixels, tmp_path, qtbot, choose, edges, names_in
):
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


def test_a_cancelled_map_is_kept_and_goes_on(
    viewer, ready, model, tmp_path, qtbot, monkeypatch, choose
):
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


def test_maps_of_another_classifier_are_replaced_only_if_asked(
    viewer, slide, ready, tmp_path, qtbot, make_model, choose
):
    choose(ready, 2)
    whole = ready.whole
    whole.folder.path = tmp_path / "maps"
    with qtbot.waitSignal(whole.work.runner.ended, timeout=WAIT):
        whole.work.button.click()
    assert not whole.replace.isVisible()
    first = (tmp_path / "maps" / "slide-maps.ome.zarr" / "run.json").read_bytes()
    ready.classifier.path = make_model(tmp_path / "other.safetensors", mpp=2.0)
    qtbot.waitUntil(lambda: ready.header.info is not None, timeout=WAIT)
    with qtbot.waitSignal(whole.work.runner.failed, timeout=WAIT):
        whole.work.button.click()
    assert whole.replace.isVisible()
    assert (tmp_path / "maps" / "slide-maps.ome.zarr" / "run.json").read_bytes() == first
    whole.replace.click()
    with qtbot.waitSignal(whole.work.runner.finished, timeout=WAIT):
        whole.work.button.click()
    assert (tmp_path / "maps" / "slide-maps.ome.zarr" / "run.json").read_bytes() != first
    assert not whole.replace.isVisible()
    assert not whole.replace.isChecked(), "asked anew the next time"
