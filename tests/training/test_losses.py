"""Losses of phase 2 against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from napari_wsss.training.losses import (
    absent_loss,
    depth_agreement,
    multi_layer_loss,
    pixel_loss,
    presence_loss,
)


@pytest.fixture
def logits():
    return torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_robust_losses_are_their_formulas_and_bounded(logits):
    target = torch.zeros(2, 4, 4, dtype=torch.long)
    p = logits.softmax(1)[:, 0]
    torch.testing.assert_close(pixel_loss(logits, target, "gce"), (1 - p**0.7) / 0.7)
    torch.testing.assert_close(pixel_loss(logits, target, "sce"), -0.1 * p.log() + 4 * (1 - p))
    wrong = torch.tensor([50.0, -50.0]).view(1, 2, 1, 1).requires_grad_()
    loss = pixel_loss(wrong, torch.ones(1, 1, 1, dtype=torch.long), "gce")
    assert float(loss.detach()) < 1.5  # cross-entropy would say 100
    loss.sum().backward()
    assert torch.isfinite(wrong.grad).all()


def test_ignored_pixels_have_no_loss(logits):
    target = torch.full((2, 4, 4), 255)
    for kind in ("ce", "gce", "sce"):
        assert float(pixel_loss(logits, target, kind).sum()) == 0


def test_trusted_patches_are_learnt_by_cross_entropy(logits):
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    trusted = torch.tensor([True, False])
    found = multi_layer_loss(logits, masks, (1.0,), kind="gce", trusted=trusted)
    target = masks[:, 0].long()
    ce, gce = pixel_loss(logits, target, "ce"), pixel_loss(logits, target, "gce")
    torch.testing.assert_close(found, (ce[0].sum() + gce[1].sum()) / 32)


def test_the_share_of_a_pixel_weighs_it(logits):
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    share = torch.zeros(2, 4, 4)
    share[0, :2] = 1.0
    share[1, 0] = 0.5
    ce = F.cross_entropy(logits, masks[:, 0].long(), reduction="none")
    wanted = (ce * share).sum() / share.sum()
    torch.testing.assert_close(multi_layer_loss(logits, masks, (1.0,), share=share), wanted)


def test_agreement_is_the_share_of_depths_equal_to_the_deepest():
    masks = torch.tensor([[[[0, 0]], [[1, 0]], [[1, 0]]]])
    torch.testing.assert_close(depth_agreement(masks), torch.tensor([[[2 / 3, 1.0]]]))


def test_absent_classes_are_negatives_of_every_pixel(logits):
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    everywhere = torch.ones(2, 4, 4, dtype=torch.bool)
    p = logits.softmax(1)
    wanted = -torch.log(torch.stack([1 - p[0, 1], 1 - p[1, 0] - p[1, 2]])).mean()
    possible = labels[:, :, None, None]
    torch.testing.assert_close(absent_loss(logits, possible, everywhere), wanted)
    first = everywhere.clone()
    first[1] = False
    wanted = -torch.log(1 - p[0, 1]).mean()
    torch.testing.assert_close(absent_loss(logits, possible, first), wanted)


def test_a_patch_without_labels_says_nothing_of_absence(logits):
    logits = logits.requires_grad_()
    possible = torch.zeros(2, 3, 1, 1)
    loss = absent_loss(logits, possible, torch.ones(2, 4, 4, dtype=torch.bool))
    assert float(loss.detach()) == 0
    loss.backward()
    assert float(logits.grad.abs().sum()) == 0


def test_a_class_that_vanishes_from_its_patch_costs():
    logits = torch.zeros(1, 2, 4, 4)
    assert float(presence_loss(logits, torch.ones(1, 2))) == 0
    logits[:, 1] = -20
    wanted = -math.log(torch.sigmoid(torch.tensor(-20.0)).clamp_min(0.05e-6) / 0.05) / 2
    assert float(presence_loss(logits, torch.ones(1, 2))) == pytest.approx(wanted, rel=1e-3)
    assert float(presence_loss(logits, torch.tensor([[1.0, 0]]))) == 0
