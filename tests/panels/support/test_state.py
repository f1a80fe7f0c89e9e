"""What panels of one viewer hand to each other."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("psygnal")
pytest.importorskip("napari")

from napari.components import ViewerModel
from napari.layers import Labels

from napari_wsss.panels.support.layers import METADATA
from napari_wsss.panels.support.state import WorkState, state_of


def test_panels_of_one_viewer_share_it_and_viewers_do_not():
    one, two = ViewerModel(), ViewerModel()
    assert state_of(one) is state_of(one)
    assert state_of(one) is not state_of(two)


def test_it_goes_with_its_viewer():
    one = ViewerModel()
    found = weakref.ref(state_of(one))
    assert found() is not None
    del one
    gc.collect()
    assert found() is None


def test_only_what_differs_is_announced():
    state, said = WorkState(), []
    state.changed.connect(said.append)
    state.set(classifier=Path("a"), folder=Path("b"))
    state.set(classifier=Path("a"), segmenter=Path("c"))
    assert said == ["classifier", "folder", "segmenter"]
    assert state.segmenter == Path("c")


def test_all_are_set_before_one_is_announced():
    state, seen = WorkState(), []
    state.changed.connect(lambda _: seen.append((state.classifier, state.segmenter)))
    state.set(classifier=Path("a"), segmenter=Path("b"))
    assert seen == [(Path("a"), Path("b"))] * 2


def test_a_misspelt_name_is_a_mistake():
    with pytest.raises(AttributeError, match="clasifier"):
        WorkState().set(clasifier=None)


def labels_of(result, **told):
    metadata = {METADATA: {"result": str(result), **told}}
    return Labels(np.zeros((4, 4), np.uint8), metadata=metadata)


def test_finished_results_that_are_opened_are_noted():
    viewer = ViewerModel()
    viewer.add_layer(labels_of("/a.ome.zarr", complete=True))
    state, said = state_of(viewer), []
    assert state.result == Path("/a.ome.zarr")
    state.changed.connect(said.append)
    for told in ({"complete": False}, {}):  # cut off, or still being made
        viewer.add_layer(labels_of("/b.ome.zarr", **told))
    viewer.add_labels(np.zeros((4, 4), np.uint8))
    # The second time its layers are others.
    assert (state.result, said) == (Path("/a.ome.zarr"), ["shown", "shown"])
    assert state.shown == Path("/b.ome.zarr")
    said.clear()
    viewer.add_layer(labels_of("/c.ome.zarr", complete=True))
    assert state.shown == state.result == Path("/c.ome.zarr")
    assert sorted(said) == ["result", "shown"]
    said.clear()
    viewer.add_layer(labels_of("/c.ome.zarr", complete=True))  # its layers are others now
    assert said == ["result"]


def test_a_result_that_is_selected_is_the_one_if_it_is_finished_now(tmp_path):
    viewer = ViewerModel()
    layers = {}
    for name in ("a", "b", "cut off"):
        (tmp_path / name).mkdir()
        record = {"complete": name != "cut off"}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        # What a layer says of its result is of the time when it was made.
        layers[name] = viewer.add_layer(labels_of(tmp_path / name, complete=name == "a"))
    state, said = state_of(viewer), []
    assert state.result == tmp_path / "a"
    state.changed.connect(said.append)
    viewer.layers.selection.active = layers["b"]
    assert state.result == tmp_path / "b"
    viewer.layers.selection.active = layers["cut off"]
    assert state.shown == tmp_path / "cut off"
    viewer.layers.selection.active = viewer.add_labels(np.zeros((4, 4), np.uint8))
    shutil.rmtree(tmp_path / "a")
    viewer.layers.selection.active = layers["a"]
    viewer.layers.selection.clear()
    assert (state.result, said.count("result")) == (tmp_path / "b", 1)
    assert state.shown == tmp_path / "a"  # as far as it can be
