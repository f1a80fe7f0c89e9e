"""Dilated depthwise convolutions by interleaved grids are the same convolutions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_wsss.training.dilated import (
    DilatedDepthwise,
    with_quick_dilation,
    without_quick_dilation,
)


def depthwise(kernel: int = 5, dilation: int = 2, **changes: object) -> nn.Conv2d:
    options = {"padding": dilation * (kernel - 1) // 2, "dilation": dilation, "groups": 6}
    return nn.Conv2d(6, 6, kernel, **{**options, **changes})


@pytest.mark.parametrize("size", [(11, 11), (8, 13), (1, 3)])
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (5, 2), (3, 4)])
def test_result_and_gradients_are_those_of_the_convolution(size, kernel, dilation):
    torch.manual_seed(0)
    conv = depthwise(kernel, dilation)
    images = torch.randn(2, 6, *size).to(memory_format=torch.channels_last)
    weight_of_output = torch.randn(2, 6, *size)
    found = []
    for module in (conv, DilatedDepthwise.of(conv)):
        x = images.clone().requires_grad_()
        y = module(x)
        gradients = torch.autograd.grad((y * weight_of_output).sum(), [x, *module.parameters()])
        found.append([y, *gradients])
        assert y.is_contiguous(memory_format=torch.channels_last)
    for expected, quick in zip(*found, strict=True):
        torch.testing.assert_close(quick, expected)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=2, dilation=2),
        depthwise(dilation=1),
        depthwise(padding=3),
        depthwise(stride=2),
        depthwise(padding_mode="reflect"),
        depthwise(padding="same"),
    ],
)
def test_others_stay_as_they_are(conv):
    model = with_quick_dilation(nn.Sequential(conv))
    assert model[0] is conv


def test_weights_stay_where_they_are_and_come_back():
    model = nn.Sequential(nn.Sequential(depthwise()), nn.BatchNorm2d(6))
    before = dict(model.named_parameters())
    with_quick_dilation(model)
    assert isinstance(model[0][0], DilatedDepthwise)
    assert all(model.get_parameter(name) is value for name, value in before.items())
    without_quick_dilation(model)
    assert type(model[0][0]) is nn.Conv2d
    assert model[0][0].dilation == (2, 2)
    assert all(model.get_parameter(name) is value for name, value in before.items())
