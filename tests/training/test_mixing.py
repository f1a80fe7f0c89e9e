"""Patches of one label put together within a batch."""

from __future__ import annotations

import pytest
import torch

from napari_wsss.training import TrueMasks, train_segmenter
from napari_wsss.training.batches import Batch
from napari_wsss.training.mixing import mixed


@pytest.fixture
def batch():
    """Black patches of class 0, a white one of class 1, and a grey one of both."""
    labels = torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 0]])
    images = torch.tensor([0.2, 0.8, 0.5, 0.2]).view(4, 1, 1, 1).expand(4, 3, 32, 32).clone()
    targets = torch.zeros(4, 2, 32, 32, dtype=torch.uint8)
    targets[1] = 1
    targets[0, :, :4] = 255  # glass
    trusted = torch.tensor([True, True, False, True])
    return images, Batch(images, labels, targets, trusted)


def generator():
    return torch.Generator().manual_seed(0)


def test_only_patches_of_one_label_are_mixed_and_their_masks_follow(batch):
    images, before = batch
    found, after = mixed(images, before, 1.0, generator())
    assert torch.equal(found[2], images[2])
    assert torch.equal(after.targets[2], before.targets[2])
    for i in (0, 1, 3):
        assert after.labels[i].tolist() == [1, 1]
        share = (after.targets[i] == 1).float().mean()
        assert 0.1 < share < 0.9
        assert torch.equal(after.targets[i, 0], after.targets[i, 1])
        bright = found[i].mean(0) > 0.5
        labelled = after.targets[i, 0] != 255
        same = (bright == (after.targets[i, 0] == 1))[labelled].float().mean()
        assert same > 0.9  # the border is soft
    assert (after.targets[0] == 255).any()  # glass stays without a class
    assert torch.equal(before.labels[0], torch.tensor([1.0, 0]))  # nothing is changed in place


def test_a_share_of_none_and_a_batch_of_one_class_stay_as_they_are(batch):
    images, before = batch
    found, after = mixed(images, before, 0.0, generator())
    assert found is images
    assert after is before
    alike = before._replace(labels=torch.tensor([[1.0, 0]] * 4))
    found, after = mixed(images, alike, 1.0, generator())
    assert torch.equal(found, images)
    assert after.labels.sum() == 4


def test_the_same_generator_gives_the_same_batch(batch):
    one, two = (mixed(*batch, 0.5, generator()) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1].targets, two[1].targets)


def test_it_is_a_setting_of_the_segmenter(patches, tmp_path, segmenter_settings):
    plain, with_parts = (
        train_segmenter(
            patches,
            TrueMasks(patches),
            tmp_path / f"{share}.safetensors",
            segmenter_settings(mosaic_share=share, validation_share=0),
        ).state_dict()["classifier.weight"]
        for share in (0.0, 1.0)
    )
    assert torch.isfinite(with_parts).all()
    assert not torch.equal(plain, with_parts)
