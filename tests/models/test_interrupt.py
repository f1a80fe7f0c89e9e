"""Stopping a network in the middle of a pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_wsss.errors import CancelledError
from napari_wsss.jobs import CancelToken
from napari_wsss.models.interrupt import interrupting


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))


class After:
    """Raises at its `n`-th call."""

    def __init__(self, n):
        self.n, self.calls = n, 0

    def __call__(self):
        self.calls += 1
        if self.calls == self.n:
            raise CancelledError("stop")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_it_stops_before_any_layer(n):
    model, check = network(), After(n)
    with pytest.raises(CancelledError), interrupting(model, check):
        model(torch.ones(2, 4))
    assert check.calls == n


def test_it_stops_on_the_way_back():
    model, check = network(), After(4)
    with interrupting(model, check):
        loss = model(torch.ones(2, 4)).sum()
        with pytest.raises(CancelledError):
            loss.backward()


def test_the_numbers_are_the_same_and_no_hook_stays():
    plain, watched = network(), network()
    images = torch.randn(5, 4)
    plain(images).sum().backward()
    token = CancelToken()
    with interrupting(watched, token.raise_if_cancelled):
        watched(images).sum().backward()
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad)
    token.cancel()
    watched(images).sum().backward()
