"""Held-out patches after an epoch: scores per class, and a few to look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.errors import CancelledError
from napari_wsss.jobs import CancelToken, EpochEnd, Examples, run_job
from napari_wsss.models import load_segmenter
from napari_wsss.training import TrueMasks, segmenter_job, train_segmenter
from napari_wsss.training.batches import PatchLoader
from napari_wsss.training.held_out import EXAMPLE_PX, EXAMPLES, chosen_examples, segment_held_out


def test_examples_follow_every_epoch(patches, tmp_path, segmenter_settings, events):
    targets = TrueMasks(patches)
    out = tmp_path / "s.safetensors"
    train_segmenter(patches, targets, out, segmenter_settings(), on_event=events.append)
    shown = [e for e in events if isinstance(e, Examples)]
    assert [e.epoch for e in shown] == [1, 2]
    names = [[x.name for x in e.examples] for e in shown]
    assert names[0] == names[1]
    assert 0 < len(names[0]) <= EXAMPLES
    for example in shown[-1].examples:
        i = patches.names.index(example.name)
        assert np.array_equal(example.image, patches.read(i))
        assert np.array_equal(example.target, targets.targets(example.name)[0])
        assert example.prediction.shape == example.target.shape
        assert set(np.unique(example.prediction)) <= {0, 1}


def test_the_iou_of_every_class_is_a_metric(patches, tmp_path, segmenter_settings, events):
    out = tmp_path / "s.safetensors"
    train_segmenter(patches, TrueMasks(patches), out, segmenter_settings(), on_event=events.append)
    metrics = [e.metrics for e in events if isinstance(e, EpochEnd)][-1]
    per_class = [metrics[f"target_iou {name}"] for name in patches.classes.names]
    assert metrics["target_miou"] == pytest.approx(np.mean(per_class))
    assert "target_iou dots" in load_segmenter(out).info.metrics


def test_a_class_that_no_held_out_patch_has_chooses_no_epoch(patches):
    """Else the best epoch would be one that never finds a rare class."""

    class Halves(torch.nn.Module):
        classes = patches.classes

        def forward(self, images):
            logits = torch.zeros(len(images), 2, *images.shape[-2:])
            logits[:, 0, : images.shape[-2] // 2] = 1
            logits[:, 1, images.shape[-2] // 2 :] = 1
            return logits, logits.mean((2, 3))

    held = patches.subset(np.flatnonzero(~patches.labels[:, 1]))
    assert held.labels[:, 0].all()
    loader = PatchLoader(held, TrueMasks(held))
    found = segment_held_out(Halves(), loader, torch.device("cpu"), "fp32").metrics
    assert found["target_iou dots"] == found["target_miou"] == 0.5
    assert found["target_iou lines"] == 0


def test_examples_have_the_size_of_their_patch(make_patches, tmp_path, segmenter_settings, events):
    """Batches are padded to their largest patch; large patches are thinned."""
    patches = make_patches(12, sizes=(32, EXAMPLE_PX + 64))
    train_segmenter(
        patches,
        TrueMasks(patches),
        tmp_path / "s.safetensors",
        segmenter_settings(epochs=1, steps_per_epoch=1),
        on_event=events.append,
    )
    examples = next(e.examples for e in events if isinstance(e, Examples))
    sides = {x.image.shape[0] for x in examples}
    assert sides <= {32, (EXAMPLE_PX + 64) // 2}
    assert all(x.image.shape[:2] == x.target.shape == x.prediction.shape for x in examples)


def test_every_combination_of_classes_is_chosen():
    labels = np.array([(1, 0)] * 30 + [(0, 1)] * 30 + [(1, 1)] * 30, bool)
    chosen = chosen_examples(labels)
    assert len(set(chosen)) == EXAMPLES
    assert chosen == chosen_examples(labels)
    assert {tuple(row) for row in labels[chosen].tolist()} == {
        (True, False), (False, True), (True, True),
    }  # fmt: skip
    assert chosen_examples(labels[:3]) == [0, 1, 2]


def test_validation_can_be_stopped(patches, tmp_path, segmenter_settings, monkeypatch):
    """Between two layers: many held-out patches take longer than a user waits."""
    token = CancelToken()

    def late(*args):
        token.cancel()
        return segment_held_out(*args)

    monkeypatch.setattr("napari_wsss.training.segmenter.segment_held_out", late)
    job = segmenter_job(
        patches, TrueMasks(patches), tmp_path / "s.st", segmenter_settings(), cancel=token
    )
    seen = []
    with pytest.raises(CancelledError):
        run_job(job, seen.append)
    assert not any(isinstance(event, EpochEnd) for event in seen)
