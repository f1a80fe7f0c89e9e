from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_wsss.errors import ModelError
from napari_wsss.models import Classifier
from napari_wsss.models.classifier import progressive_dropout_attention


@pytest.fixture
def features():
    return torch.rand(2, 8, 6, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def weight():
    return torch.randn(3, 8, 1, 1, generator=torch.Generator().manual_seed(1))


def by_hand(features, weight, mu):
    """Han et al. 2022, equations 2 to 4, pixel by pixel, then scaled to mean 1."""
    rows = []
    for image in features:
        maps = [(image * w).sum(0).clamp_min(0) for w in weight]
        kept = [m * (m <= mu * m.max()) for m in maps]
        attention = torch.stack(kept).mean(0)
        rows.append(attention / attention.mean())
    return torch.stack(rows)[:, None]


@pytest.mark.parametrize("mu", [1.0, 0.9, 0.65])
def test_attention_is_the_papers_with_mean_one(features, weight, mu):
    found = progressive_dropout_attention(features, weight, mu)
    assert found.shape == (2, 1, 6, 5)
    torch.testing.assert_close(found, by_hand(features, weight, mu))
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.ones(2))


def test_the_strongest_pixel_is_dropped_only_below_one():
    features = torch.zeros(1, 1, 2, 2)
    features[0, 0] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    weight = torch.ones(1, 1, 1, 1)
    everything = progressive_dropout_attention(features, weight, 1.0)
    torch.testing.assert_close(everything[0, 0], features[0, 0] / 2.5)
    dropped = progressive_dropout_attention(features, weight, 0.99)
    torch.testing.assert_close(dropped[0, 0], torch.tensor([[1.0, 2.0], [3.0, 0.0]]) / 1.5)


def test_each_class_has_its_own_cut():
    features = torch.zeros(1, 2, 1, 4)
    features[0, 0, 0] = torch.tensor([8.0, 1.0, 1.0, 0.0])
    features[0, 1, 0] = torch.tensor([0.0, 0.1, 0.1, 0.8])
    weight = torch.eye(2)[:, :, None, None]
    found = progressive_dropout_attention(features, weight, 0.7)[0, 0, 0]
    assert found[0] == found[3] == 0  # both maxima, though one is ten times the other
    assert (found[1:3] == 2).all()


def test_a_map_of_nothing_leaves_features_alone(features):
    found = progressive_dropout_attention(features, torch.zeros(3, 8, 1, 1), 0.7)
    assert torch.equal(found, torch.ones_like(found))
    constant = progressive_dropout_attention(torch.ones(1, 8, 4, 4), torch.ones(1, 8, 1, 1), 0.7)
    assert torch.equal(constant, torch.ones_like(constant))  # all is maximum, all is dropped


def test_attention_has_no_gradient(features, weight):
    features.requires_grad_()
    weight.requires_grad_()
    assert not progressive_dropout_attention(features, weight, 0.8).requires_grad


def test_attention_is_exact_under_autocast(features, weight):
    expected = progressive_dropout_attention(features, weight, 0.8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = progressive_dropout_attention(features, weight, 0.8)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_attention_multiplies_the_deepest_features(classifier):
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        deepest = classifier.features(x)[-1]
        weight = classifier.heads[-1].weight
        attention = progressive_dropout_attention(deepest, weight, 0.7)
        expected = F.conv2d(deepest * attention, weight).mean((2, 3))
        torch.testing.assert_close(classifier(x, mu=0.7).logits[-1], expected)
        plain = F.conv2d(deepest, weight).mean((2, 3))
        torch.testing.assert_close(classifier(x).logits[-1], plain)
    assert not torch.allclose(expected, plain)


def test_heads_have_no_bias_and_their_map_is_the_cam(make_info):
    model = Classifier(make_info(depths=[-1, -3], deep_supervision=True)).eval()
    assert model.stages == (2, 4)
    assert all(h.bias is None for h in model.heads)
    with torch.no_grad():
        x = torch.rand(1, 3, 64, 64)
        maps = model.head_maps(model.features(x))
        for logits, m in zip(model(x).logits, maps, strict=True):
            torch.testing.assert_close(logits, m.mean((2, 3)))
    assert [m.shape[-1] for m in maps] == [8, 4]


def test_dense_output_is_the_mean_of_the_maps_at_input_size(make_info):
    model = Classifier(make_info(depths=[-2, -1], deep_supervision=True)).eval()
    with torch.no_grad():
        x = torch.rand(1, 3, 48, 80)
        maps = model.head_maps(model.features(x))
        dense = model.dense(x)
    large = [F.interpolate(m, (48, 80), mode="bilinear") for m in maps]
    torch.testing.assert_close(dense.logits, (large[0] + large[1]) / 2)
    torch.testing.assert_close(dense.presence, maps[-1])


def test_the_joint_head_sees_all_depths_at_the_shallowest_resolution(make_info):
    model = Classifier(make_info(depths=[-3, -2, -1], joint_head=8)).eval()
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    features = [f.detach().requires_grad_() for f in model.features(x)]
    joint = model.joint_map(features)
    assert joint.shape == (2, len(model.classes), *features[0].shape[-2:])
    joint.square().sum().backward()
    assert all(bool(f.grad.abs().sum() > 0) for f in features)
    with torch.no_grad():
        torch.testing.assert_close(model(x).joint, joint.detach())
        dense = model.dense(x)
        large = F.interpolate(joint.detach(), (64, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(dense.logits, large)
        torch.testing.assert_close(dense.presence, model.head_maps(model.features(x))[-1])


def test_without_a_joint_head_there_is_no_joint_map(classifier):
    assert classifier(torch.rand(1, 3, 64, 64)).joint is None
    with pytest.raises(ModelError, match="joint_head = true"):
        classifier.joint_map(classifier.features(torch.rand(1, 3, 64, 64)))
