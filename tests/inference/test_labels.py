"""Labels from squares that look alike are those of every pixel interpolated."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.inference import labels as module
from napari_wsss.inference.gate import GateGrid, over_pixels
from napari_wsss.inference.labels import label_map, region_labels
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import Rect

RATIOS = [(1, 1), (1, 2), (1, 4), (3, 8), (3, 4), (5, 8), (3, 2)]


def made(height, width, per, period, smooth, seed=0):
    """Return a region of 4 classes: noise, or some patches of one class each."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, height * per, width * per, generator=generator)
    if smooth:
        few = torch.randn(1, 4, 2, 3, generator=generator)
        logits = F.interpolate(few, logits.shape[1:], mode="bilinear")[0] + 0.02 * logits
    rect = Rect(16 * period, 8 * period, height * period, width * period)
    return Region(rect, logits, torch.zeros(4, 1, 1))


def pixel_by_pixel(region, rect, cells=None, grid=None):
    """Return the margin between the two best classes, and the labels."""
    size = region.rect.height, region.rect.width
    whole = F.interpolate(region.logits[None], size, mode="bilinear", align_corners=False)[0]
    y, x = rect.y - region.rect.y, rect.x - region.rect.x
    logits = whole[:, y : y + rect.height, x : x + rect.width]
    allowed = None if cells is None else over_pixels(cells, grid, rect)
    best = logits if allowed is None else torch.where(allowed, logits, -torch.inf)
    two = best.topk(2, 0).values
    return two[0] - two[1], label_map(logits, allowed)


def check(region, rect, cells=None, grid=None):
    margin, expected = pixel_by_pixel(region, rect, cells, grid)
    found = region_labels(region, rect, cells, grid)
    assert found.shape == expected.shape
    assert found.dtype == torch.uint8
    assert ((found == expected) | (margin < 1e-5)).all()


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    ratio=st.sampled_from(RATIOS),
    smooth=st.booleans(),
    gated=st.booleans(),
    data=st.data(),
)
@settings(max_examples=250, deadline=None, derandomize=True)
def test_any_rectangle(height, width, ratio, smooth, gated, data):
    region = made(height, width, *ratio, smooth)
    # Blocks begin at multiples of the period; any other place must do as well.
    step = data.draw(st.sampled_from([1, ratio[1]]))
    y = data.draw(st.integers(0, region.rect.height - 1)) // step * step
    x = data.draw(st.integers(0, region.rect.width - 1)) // step * step
    h = data.draw(st.integers(1, region.rect.height - y))
    w = data.draw(st.integers(1, region.rect.width - x))
    rect = Rect(region.rect.y + y, region.rect.x + x, h, w)
    if not gated:
        check(region, rect)
        return
    grid = GateGrid(data.draw(st.sampled_from([2, 8, 16])), (10_000, 10_000))
    spans = [grid.cells(rect.y, rect.height, 0), grid.cells(rect.x, rect.width, 1)]
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    cells = torch.rand(4, *(b - a for a, b in spans), generator=generator) < 0.5
    cells[1] |= ~cells.any(0)  # one class always stays
    check(region, rect, cells, grid)


@pytest.mark.parametrize("at_once", [1, 500])
def test_in_small_pieces(monkeypatch, at_once):
    monkeypatch.setattr(module, "_AT_ONCE", at_once)
    region = made(9, 7, 1, 4, smooth=True)
    check(region, region.rect)


def test_a_part_of_the_map_serves_what_it_covers():
    whole = made(16, 16, 1, 4, smooth=True)
    part = Region(
        whole.rect, whole.logits[:, 3:12, 5:14], whole.presence, origin=(3, 5), size=(16, 16)
    )
    rect = Rect(whole.rect.y + 16, whole.rect.x + 24, 28, 28)
    assert torch.equal(region_labels(part, rect), region_labels(whole, rect))


def test_only_borders_are_interpolated(monkeypatch):
    squares = []
    put = module._put
    monkeypatch.setattr(
        module, "_put", lambda *given: (squares.append(len(given[1])), put(*given))
    )
    logits = torch.zeros(2, 64, 64)
    logits[0, :, :32] = logits[1, :, 32:] = 1.0
    region = Region(Rect(0, 0, 256, 256), logits, torch.zeros(2, 1, 1))
    found = region_labels(region, region.rect)
    assert (found[:, :128] == 0).all()
    assert (found[:, 128:] == 1).all()
    assert sum(squares) == 2 * 64  # two columns
