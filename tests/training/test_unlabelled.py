"""Unlabelled tiles beside labelled patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.errors import DataError, TrainingError
from napari_wsss.jobs import Log
from napari_wsss.training import TrueMasks, train_segmenter
from napari_wsss.training.segmenter import segmenter_mark
from napari_wsss.training.unlabelled import mixed_order, read_unlabelled, unlabelled

TEACHER = {"decay": 0.9, "relabel_from": 0.5, "unlabelled_share": 0.5}


@pytest.fixture
def tiles(make_patches, patches):
    other = make_patches(8, name="other", seed=1)
    return read_unlabelled(other.root / "images", patches)


def test_every_image_below_the_folder_is_a_tile_of_which_nothing_is_known(tiles, patches):
    assert len(tiles) == 8
    assert not tiles.labels.any()
    assert tiles.classes == patches.classes
    assert tiles.masks is None
    assert tiles.read(0).shape == (32, 32, 3)
    assert not set(tiles.names) & set(patches.names)


def test_a_folder_without_images_is_met_with_what_to_give(tmp_path, patches):
    with pytest.raises(DataError, match=r"no images below .*PNG, JPEG"):
        read_unlabelled(tmp_path / "nothing", patches)


def test_tiles_take_the_last_places_of_a_batch():
    order = [[0, 1, 2, 3], [4, 0, 1, 2]]
    found = mixed_order(order, 5, 3, 0.5, seed=0)
    assert [batch[:2] for batch in found] == [[0, 1], [4, 0]]
    assert all(5 <= i < 8 for batch in found for i in batch[2:])
    assert found == mixed_order(order, 5, 3, 0.5, seed=0)
    assert mixed_order([[0]], 1, 3, 0.9, seed=0) == [[0]]  # a labelled patch stays


def test_they_are_learnt_from_and_change_the_model(
    patches, tiles, tmp_path, segmenter_settings, events
):
    settings = segmenter_settings(teacher=TEACHER, choose_by="last")
    targets = TrueMasks(patches)
    without = train_segmenter(patches, targets, tmp_path / "a.safetensors", settings)
    model = train_segmenter(
        patches,
        targets,
        tmp_path / "b.safetensors",
        settings,
        unlabelled=tiles,
        on_event=events.append,
    )
    assert any("8 unlabelled tiles" in e.message for e in events if isinstance(e, Log))
    name = "classifier.weight"
    a, b = (m.state_dict()[name] for m in (without, model))
    assert torch.isfinite(b).all()
    assert not torch.equal(a, b)
    marks = {segmenter_mark(patches, targets, settings, t) for t in (None, tiles)}
    assert len(marks) == 2


def test_without_a_teacher_they_are_refused(patches, tiles, tmp_path, segmenter_settings):
    with pytest.raises(TrainingError, match=r"Set teacher\.decay"):
        train_segmenter(
            patches,
            TrueMasks(patches),
            tmp_path / "s.safetensors",
            segmenter_settings(teacher={"decay": 0, "relabel_from": 1}),
            unlabelled=tiles,
        )


def test_tiles_with_labels_are_refused(patches, make_patches, tmp_path, segmenter_settings):
    labelled = make_patches(4, name="labelled")
    with pytest.raises(DataError, match="4 of the unlabelled tiles have a label"):
        train_segmenter(
            patches,
            TrueMasks(patches),
            tmp_path / "s.safetensors",
            segmenter_settings(teacher=TEACHER),
            unlabelled=labelled,
        )
    assert not np.any(unlabelled(labelled).labels)
