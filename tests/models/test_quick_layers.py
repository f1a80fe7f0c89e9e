from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_wsss.models import Classifier, Segmenter
from napari_wsss.models import quick_layers as module
from napari_wsss.models.fusion import fused
from napari_wsss.models.quick_layers import with_quick_convolutions

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN"
)


def made(make_info, kind="segmenter", **encoder):
    torch.manual_seed(0)
    info = make_info(kind, encoder=encoder, decoder_channels=16)
    return fused({"segmenter": Segmenter, "classifier": Classifier}[kind](info).eval())


def count(model, *kinds):
    return sum(type(m).__name__ in kinds for m in model.modules())


@pytest.mark.parametrize(
    ("kind", "encoder"),
    [
        ("segmenter", "test_resnet"),
        ("segmenter", "tf_efficientnet_lite0"),  # with padding that depends on the input
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (47, 81)])
def test_outputs_are_those_of_the_original(make_info, kind, encoder, size):
    model = made(make_info, kind, name=encoder)
    quick = with_quick_convolutions(model)
    assert count(quick, "QuickConv") > 4
    assert count(quick, "ReLU", "ReLU6") < count(model, "ReLU", "ReLU6")
    noise = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        for ours, theirs in zip(quick.dense(noise), model.dense(noise), strict=True):
            scale = theirs.abs().max()
            torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fault", ["raises", "is wrong"])
def test_without_a_working_operator_nothing_changes(make_info, monkeypatch, fault):
    model = made(make_info)

    def forward(self, x):
        if fault == "raises":
            raise RuntimeError("expected 10 arguments")
        return x.new_zeros(len(x), len(self.weight), *x.shape[2:])

    monkeypatch.setattr(module.QuickConv, "forward", forward)
    assert with_quick_convolutions(model) is model
    assert count(model, "QuickConv") == 0


def test_an_activation_that_is_shared_stays(make_info):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 3, 1)
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.relu(self.two(self.relu(self.one(x))))

    model = made(make_info)
    original = model.dense
    model.before = Shared()
    model.dense = lambda x: original(model.before(x))
    pairs = module._pairs(model, torch.rand(1, 3, 64, 64))
    assert pairs
    assert all(activation is not model.before.relu for _, activation in pairs)


def test_activations_before_convolutions_leave_nothing_to_fuse(make_info):
    model = made(make_info, "classifier", name="resnet38d")
    assert with_quick_convolutions(model) is model
