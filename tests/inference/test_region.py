"""Enlarging a part of a map gives the part of the enlarged map."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.inference import region as module
from napari_wsss.inference.predict import entropy_region, uncertainty_map
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import Rect


def made(height, width, per, period, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, height * per, width * per, generator=generator)
    rect = Rect(32, 64, height * period, width * period)
    return Region(rect, logits, torch.zeros(3, 1, 1))


def enlarged(region):
    size = region.rect.height, region.rect.width
    return F.interpolate(region.logits[None], size, mode="bilinear", align_corners=False)[0]


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    # Pixels of the map and of the image: strides, and those of networks that enlarge.
    ratio=st.sampled_from([(1, 1), (1, 4), (1, 16), (3, 8), (3, 4), (5, 8), (3, 2)]),
    data=st.data(),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_crop_is_that_of_the_enlarged_whole(height, width, ratio, data):
    region = made(height, width, *ratio)
    y = data.draw(st.integers(0, region.rect.height - 1))
    x = data.draw(st.integers(0, region.rect.width - 1))
    h = data.draw(st.integers(1, region.rect.height - y))
    w = data.draw(st.integers(1, region.rect.width - x))
    found = region.crop(Rect(region.rect.y + y, region.rect.x + x, h, w))
    torch.testing.assert_close(
        found, enlarged(region)[:, y : y + h, x : x + w], atol=1e-5, rtol=1e-5
    )


def test_a_part_of_the_map_serves_what_it_covers():
    region = made(16, 16, 1, 4)
    part = Region(
        region.rect, region.logits[:, 3:12, 5:14], region.presence, origin=(3, 5), size=(16, 16)
    )
    wanted = Rect(region.rect.y + 16, region.rect.x + 24, 28, 28)
    torch.testing.assert_close(part.crop(wanted), region.crop(wanted))


def test_strips_are_the_crop_row_by_row(monkeypatch):
    monkeypatch.setattr(module, "_STRIP", 3 * 60 * 9)
    region = made(20, 16, 1, 4)
    rect = Rect(region.rect.y + 5, region.rect.x + 2, 70, 60)
    strips = list(region.strips(rect))
    assert len(strips) > 5
    rows = np.concatenate([np.arange(rect.height)[s] for s, _ in strips])
    np.testing.assert_array_equal(rows, np.arange(rect.height))
    torch.testing.assert_close(torch.cat([part for _, part in strips], 1), region.crop(rect))


def test_uncertainty_is_the_entropy_of_the_networks_own_output():
    logits = torch.zeros(3, 4, 4)
    logits[0, :, 2:] = 30.0  # undecided on the left, certain on the right
    region = Region(Rect(0, 0, 16, 16), logits, torch.zeros(3, 1, 1))
    found = entropy_region(region).crop(region.rect)[0]
    torch.testing.assert_close(found[:, :6], torch.ones(16, 6))
    torch.testing.assert_close(found[:, 10:], torch.zeros(16, 6), atol=1e-6, rtol=0)
    assert (found[:, 6:10].diff(dim=1) < 0).all()
    torch.testing.assert_close(uncertainty_map(torch.zeros(5, 2, 2)), torch.ones(2, 2))
