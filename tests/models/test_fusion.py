"""Folding batch norms changes nothing but the time."""

import copy

import pytest
import torch
from torch import nn

from napari_wsss.models import Classifier, Segmenter
from napari_wsss.models.fusion import fused


def norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def lively(model):
    """Give every batch norm statistics of its own, as training does."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for norm in norms(model):
            norm.running_mean.normal_(0, 0.3, generator=generator)
            norm.running_var.uniform_(0.5, 2, generator=generator)
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.mark.parametrize(
    ("kind", "encoder", "left"),
    [
        ("segmenter", {}, 0),
        ("segmenter", {"name": "tf_efficientnet_lite0"}, 0),
        ("classifier", {}, 0),
        # Activations come before convolutions: only norms that follow one directly go.
        ("classifier", {"name": "resnet38d"}, 17),
    ],
)
def test_outputs_are_those_of_the_original(make_info, kind, encoder, left):
    torch.manual_seed(0)
    model = {"segmenter": Segmenter, "classifier": Classifier}[kind](
        make_info(kind, encoder=encoder, decoder_channels=16)
    )
    model = lively(model)
    before = copy.deepcopy(model.state_dict())
    quick = fused(model)
    assert len(norms(quick)) <= left
    assert len(norms(quick)) < len(norms(model))
    noise = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for ours, theirs in zip(quick.dense(noise), model.dense(noise), strict=True):
            scale = theirs.abs().max()
            torch.testing.assert_close(ours / scale, theirs / scale, atol=1e-5, rtol=0)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_an_output_that_is_used_twice_is_left_alone(make_info):
    """The skip connection must see what the convolution gave, not its normalised form."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x):
            y = self.conv(x)
            return y + self.norm(y)

    class Model(Classifier):
        def dense(self, x):
            out = super().dense(x)
            return out._replace(logits=self.twice(out.logits))

    model = Model(make_info())
    model.twice = Twice()
    model = lively(model)
    quick = fused(model)
    noise = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(quick.dense(noise).logits, model.dense(noise).logits)


def test_damaged_weights_are_left_for_the_run_to_report(make_info):
    model = Segmenter(make_info("segmenter", decoder_channels=16)).eval()
    nn.init.constant_(model.encoder.net.conv1[0].weight, torch.nan)
    assert torch.isnan(fused(model).dense(torch.rand(1, 3, 32, 32)).logits).any()
