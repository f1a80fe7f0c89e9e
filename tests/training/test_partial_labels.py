from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_wsss.models.classifier import ClassifierOutput
from napari_wsss.settings import ClassifierSettings
from napari_wsss.training.classifier import heads_loss
from napari_wsss.training.partial_labels import FOUND_SHARE, found_loss, partial_label_loss

LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1], [1, 1, 1]])


@pytest.fixture
def logits():
    return torch.randn(3, 3, 5, 4, generator=torch.Generator().manual_seed(0))


def test_a_single_label_is_a_label_of_every_pixel(logits):
    target = torch.zeros(1, 5, 4, dtype=torch.long)
    found = partial_label_loss(logits[:1], LABELS[:1], 0.5)
    torch.testing.assert_close(found, F.cross_entropy(logits[:1], target))


def test_pixels_have_one_of_several_classes(logits):
    p = logits.softmax(1)
    expected = -torch.log(p[1, 1] + p[1, 2]).mean()
    torch.testing.assert_close(partial_label_loss(logits[1:2], LABELS[1:2], 0), expected)
    every = partial_label_loss(logits[2:], LABELS[2:], 0)  # says nothing
    torch.testing.assert_close(every, torch.zeros(()))


def test_pixels_that_are_known_better_have_that_class(logits):
    masks = torch.full((3, 1, 10, 8), 255, dtype=torch.uint8)
    masks[1, 0, :4] = 1  # two of five rows
    masks[1, 0, 4:6] = 2
    logp = logits.log_softmax(1)
    open_rows = -torch.logsumexp(logp[1, 1:, 3:], 0)
    expected = torch.cat(
        [-logp[1, 1, :2].flatten(), -logp[1, 2, 2].flatten(), open_rows.flatten()]
    )
    found = partial_label_loss(logits[1:2], LABELS[1:2], 0, masks[1:2])
    torch.testing.assert_close(found, expected.mean())


def test_each_class_of_a_label_must_be_found_somewhere(logits):
    p = logits.softmax(1).flatten(2)
    assert round(FOUND_SHARE * 20) == 2
    top = p.topk(2, 2).values.mean(2)
    second = -(top[1, 1].log() + top[1, 2].log()) / 2
    third = -top[2].log().mean()
    expected = (second + third) / 3  # the first has one class only
    torch.testing.assert_close(found_loss(logits, LABELS), expected)


def test_a_class_that_is_nowhere_has_a_gradient():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 5
    logits.requires_grad_()
    partial_label_loss(logits, torch.ones(1, 2), 1.0).backward()
    assert (logits.grad[:, 1] <= 0).all()
    assert (logits.grad[:, 1] < 0).any()


@pytest.mark.parametrize("joint_loss", ["pixels", "pooled"])
def test_the_joint_head_learns_from_pixels_or_pooled(logits, joint_loss):
    pooled = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
    alone = F.multilabel_soft_margin_loss(pooled, LABELS)
    settings = ClassifierSettings(joint_head=True, joint_loss=joint_loss, found_weight=0.3)
    torch.testing.assert_close(
        heads_loss(ClassifierOutput([pooled], None), LABELS, settings), alone
    )
    found = heads_loss(ClassifierOutput([pooled], logits), LABELS, settings)
    if joint_loss == "pixels":
        expected = alone + partial_label_loss(logits, LABELS, 0.3)
    else:
        expected = (alone + F.multilabel_soft_margin_loss(logits.mean((2, 3)), LABELS)) / 2
    torch.testing.assert_close(found, expected)
