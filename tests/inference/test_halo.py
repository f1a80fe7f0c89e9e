from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_wsss.inference import halo as module
from napari_wsss.inference.halo import receptive_halo
from napari_wsss.models import DenseOutput


@pytest.fixture(autouse=True)
def forget():
    module._KNOWN.clear()


class Stack(nn.Module):
    """Plain convolutions: (kernel, stride, dilation) each."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.Sequential()
        self.step = 1
        for kernel, stride, dilation in layers:
            padding = dilation * (kernel // 2)
            self.layers.append(nn.Conv2d(3, 3, kernel, stride, padding, dilation))
            self.layers.append(nn.ReLU())
            self.step *= stride

    @property
    def alignment_px(self):
        return self.step

    def dense(self, x):
        y = self.layers(x)
        return DenseOutput(nn.functional.interpolate(y, x.shape[-2:], mode="nearest"), y)


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 1, 1)],
        [(3, 1, 1), (5, 1, 1), (3, 1, 4)],
        [(3, 2, 1), (3, 1, 1)],
        [(7, 2, 1), (3, 2, 2), (3, 1, 3)],
        [(1, 4, 1)],
    ],
)
def test_the_halo_of_convolutions_is_that_of_the_formula(layers):
    """Araujo et al. 2019: the radius grows by dilation (kernel - 1) / 2 times the stride."""
    radius, stride = 0, 1
    for kernel, step, dilation in layers:
        radius += dilation * (kernel // 2) * stride
        stride *= step
    # An output pixel stands for `stride` inputs and sees `radius` to the left of the first;
    # to the right it sees `radius` beyond the first, too.
    expected = -(-radius // stride) * stride
    assert module._measure(Stack(layers)) == (expected, expected)


@pytest.mark.parametrize(
    ("kind", "encoder", "architecture"),
    [
        ("segmenter", {"name": "test_efficientnet"}, {}),  # squeeze and excitation
        ("classifier", {"name": "mobilenetv3_small_050"}, {}),  # the same
        ("segmenter", {}, {"decoder": "deeplabv3plus"}),  # pools over the image
        ("classifier", {"name": "test_efficientnet_gn"}, {}),  # group norm
        ("classifier", {"name": "test_vit", "output_stride": 32}, {}),  # attention
        # Sees little, but depends on where its windows begin.
        ("classifier", {"name": "swin_tiny_patch4_window7_224", "output_stride": 32}, {}),
    ],
)
def test_networks_that_no_halo_makes_exact(make_model, kind, encoder, architecture):
    assert receptive_halo(make_model(kind, encoder=encoder, **architecture)) is None


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [
        ("segmenter", {}),
        ("segmenter", {"upscale": 2.0}),
        ("segmenter", {"upscale": 1.5}),
        ("classifier", {"output_stride": 32}),
        ("classifier", {"name": "test_convnext"}),  # layer norm over channels
    ],
)
def test_the_halo_is_a_multiple_of_the_alignment(make_model, kind, encoder):
    model = make_model(kind, encoder=encoder)
    halo = receptive_halo(model)
    assert 0 < halo.presence <= halo.logits < 1024
    assert halo.logits % model.alignment_px == 0
    assert halo.presence % model.alignment_px == 0


def test_measuring_leaves_the_model_alone(make_model):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    receptive_halo(model)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.parameters())


def test_the_halo_does_not_depend_on_the_weights(make_model):
    model = make_model()
    expected = receptive_halo(model)
    module._KNOWN.clear()
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    assert receptive_halo(model) == expected


def test_enlarging_shrinks_the_halo(make_model):
    one, two = (receptive_halo(make_model(encoder={"upscale": u})).logits for u in (1.0, 2.0))
    assert one / 2 <= two <= one / 2 + 16


def test_another_network_of_the_same_settings_is_measured_by_itself(make_model, known_model):
    sees_nothing_around = known_model(lambda x: x * 1.0, lambda x: x * 1.0)
    assert receptive_halo(sees_nothing_around).logits == 0
    assert receptive_halo(make_model("classifier")).logits > 0
