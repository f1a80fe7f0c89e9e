"""What is held out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_wsss.jobs import Log
from napari_wsss.training import train_classifier
from napari_wsss.training.split import hold_out


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_never_divided(make_patches, classifier_settings, seed):
    patches = make_patches(24, groups=8)
    train, held, notes = hold_out(patches, classifier_settings(seed=seed))
    assert not notes
    assert set(train.groups).isdisjoint(held.groups)
    assert sorted(train.names + held.names) == sorted(patches.names)
    assert 0 < len(held) < len(train)
    assert train.labels.any(0).all()


def test_a_validation_split_is_used_as_it_is(patches, classifier_settings):
    split = ("train",) * 7 + ("val",) * 3 + ("test",) * 2
    train, held, _ = hold_out(replace(patches, split=split), classifier_settings())
    assert train.names == patches.names[:7]
    assert held.names == patches.names[7:10]


@pytest.mark.parametrize(("groups", "share"), [(1, 0.3), (6, 0.0)])
def test_without_held_out_patches_the_last_epoch_is_kept(
    make_patches, tmp_path, classifier_settings, events, groups, share
):
    patches = make_patches(groups=groups)
    settings = classifier_settings(validation_share=share)
    model = train_classifier(patches, tmp_path / "c.safetensors", settings, on_event=events.append)
    assert [row["best"] for row in model.history] == [1, 1]
    assert "map" not in model.info.metrics
    assert any("last epoch will be kept" in e.message for e in events if isinstance(e, Log))
