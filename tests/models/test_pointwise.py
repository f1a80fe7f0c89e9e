from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from napari_wsss.models.pointwise import with_matrix_products


@pytest.mark.parametrize("bias", [True, False])
def test_wide_convolutions_become_matrix_products(bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(8, 512, 3), nn.Sequential(nn.Conv2d(512, 768, 1, bias=bias)))
    x = torch.rand(2, 8, 9, 7).to(memory_format=torch.channels_last).requires_grad_()
    quick = with_matrix_products(copy.deepcopy(model))
    assert not isinstance(quick[1][0], nn.Conv2d)
    one, two = model(x), quick(x)
    torch.testing.assert_close(one, two)
    assert two.is_contiguous(memory_format=torch.channels_last)
    (a,), (b,) = (torch.autograd.grad(y.square().sum(), x) for y in (one, two))
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(512, 512, 3, padding=1),
        nn.Conv2d(512, 512, 1, stride=2),
        nn.Conv2d(512, 512, 1, padding=1),
        nn.Conv2d(512, 512, 1, groups=2),
        nn.Conv2d(511, 512, 1),
    ],
)
def test_others_stay(conv):
    model = with_matrix_products(nn.Sequential(conv))
    assert model[0] is conv
