from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.classes import IGNORE
from napari_wsss.models.classifier import ClassifierOutput
from napari_wsss.training import classifier as phase
from napari_wsss.training import train_classifier
from napari_wsss.training.batches import Batch
from napari_wsss.training.mosaic import composed, draw_pairs, has_pairs, with_mosaics

#: Class 2 is never alone; class 1 is in most labels.
LABELS = np.array([[1, 0, 0]] * 2 + [[0, 1, 0]] * 3 + [[0, 1, 1]] * 5, bool)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pairs_are_of_single_label_patches_as_often_as_their_class_occurs():
    pairs = np.array(draw_pairs(LABELS, 6, 200, seed=0))
    assert pairs.shape == (200, 6, 2)
    assert set(np.unique(pairs)) == {0, 1, 2, 3, 4}
    assert (pairs >= 2).mean() == pytest.approx(8 / 10, abs=0.03)  # class 1 is in 8 of 10 labels
    np.testing.assert_array_equal(draw_pairs(LABELS, 6, 200, seed=0), pairs)
    assert pairs.tolist() != np.array(draw_pairs(LABELS, 6, 200, seed=1)).tolist()


def test_two_classes_must_be_alone_somewhere():
    assert has_pairs(LABELS)
    assert not has_pairs(LABELS[:2])
    assert not has_pairs(LABELS[2:])


def test_parts_have_the_class_of_the_patch_they_come_from():
    first, second = torch.full((40, 3, 32, 24), 0.3), torch.full((40, 3, 32, 24), 0.3)
    first[:, 0], second[:, 0] = 0.2, 0.8
    one, two = torch.zeros(40, dtype=torch.long), torch.full((40,), 2)
    images, masks = composed(first, second, one, two, seeded())
    assert masks.shape == (40, 1, 32, 24)
    assert masks.dtype == torch.uint8
    assert set(masks.unique().tolist()) == {0, 2}
    share = (masks == 0).float().mean((1, 2, 3))
    assert share.min() > 0.15
    assert share.max() < 0.85
    assert share.std() > 0.1
    inside = images[:, 0].amin((1, 2)), images[:, 0].amax((1, 2))
    assert (images[:, 0][masks[:, 0] == 0].mean() - images[:, 0][masks[:, 0] == 2].mean()) < -0.1
    # Softly: there are values between those of the two parts.
    between = (images[:, 0] > inside[0][:, None, None] + 0.05) & (
        images[:, 0] < inside[1][:, None, None] - 0.05
    )
    assert 0.01 < between.float().mean() < 0.5


def test_the_stain_is_brought_halfway():
    first, second = torch.full((1, 3, 16, 16), 0.8), torch.full((1, 3, 16, 16), 0.6)
    images, masks = composed(first, second, torch.tensor([0]), torch.tensor([1]), seeded())
    density = -torch.log(images[0, 0][masks[0, 0] == 1].min())
    halfway = (-np.log(0.8) - np.log(0.6)) / 2
    # The share of the change is limited.
    assert float(density) == pytest.approx(max(halfway, -np.log(0.6) * 0.6), abs=1e-3)


def test_pairs_of_a_batch_become_one_patch_each():
    labels = torch.eye(3)[[0, 1, 2, 0, 1, 1, 1]]
    images = torch.randint(0, 256, (7, 3, 16, 16), generator=seeded(), dtype=torch.uint8)
    found = with_mosaics(Batch(images, labels, None), 3, seeded())
    assert found.images.shape == (5, 3, 16, 16)
    assert found.images.dtype == torch.uint8
    assert torch.equal(found.images[:3], images[:3])
    assert found.labels.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert (found.targets[:3] == IGNORE).all()
    assert set(found.targets[3].unique().tolist()) == {0, 1}
    assert (found.targets[4] == 1).all()
    again = with_mosaics(Batch(images, labels, None), 3, seeded())
    assert torch.equal(found.images, again.images)
    assert not torch.equal(
        found.images, with_mosaics(Batch(images, labels, None), 3, seeded(1)).images
    )


def test_a_batch_without_pairs_says_that_no_pixel_is_known():
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    found = with_mosaics(Batch(images, torch.eye(3)[:2], None), 2, seeded())
    assert found.targets.shape == (2, 1, 8, 8)
    assert (found.targets == IGNORE).all()


def test_the_classifier_learns_from_mosaics(patches, tmp_path, classifier_settings, monkeypatch):
    seen = []

    def loss(found: ClassifierOutput, labels, settings, masks):
        known = (masks != IGNORE).flatten(1).all(1)
        seen.append((len(labels), int(known.sum()), labels[known].sum(1).tolist()))
        return true_loss(found, labels, settings, masks)

    true_loss = phase.heads_loss
    monkeypatch.setattr(phase, "heads_loss", loss)
    settings = classifier_settings(
        epochs=1, batch_size=8, steps_per_epoch=3, joint_head=True, mosaic_share=0.25
    )
    model = train_classifier(patches, tmp_path / "c.safetensors", settings)
    assert [row[:2] for row in seen] == [(8, 2)] * 3
    assert all(1 <= n <= 2 for row in seen for n in row[2])
    again = train_classifier(patches, tmp_path / "d.safetensors", settings)
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_mosaics_that_cannot_be_made_are_told(patches, tmp_path, classifier_settings):
    events = []
    settings = classifier_settings(epochs=1, joint_head=False, mosaic_share=0.25)
    train_classifier(patches, tmp_path / "c.safetensors", settings, on_event=events.append)
    assert any("joint_head = true" in getattr(e, "message", "") for e in events)
