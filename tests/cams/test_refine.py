from __future__ import annotations

import pytest
import torch

from napari_wsss.cams.refine import EPSILON, guided_filter


def test_it_is_the_filter_of_its_paper():
    """Every window by hand: a line fitted to its pixels, then the mean over windows."""
    generator = torch.Generator().manual_seed(0)
    grey, level = torch.rand(7, 9, generator=generator), torch.rand(7, 9, generator=generator)
    r, lines = 2, {}
    for y in range(7):
        for x in range(9):
            window = (slice(max(0, y - r), y + r + 1), slice(max(0, x - r), x + r + 1))
            guide, value = grey[window], level[window]
            covariance = (guide * value).mean() - guide.mean() * value.mean()
            slope = covariance / (guide.var(correction=0) + EPSILON)
            lines[y, x] = (slope, value.mean() - slope * guide.mean())
    expected = torch.empty(7, 9)
    for y in range(7):
        for x in range(9):
            near = [v for (j, i), v in lines.items() if abs(j - y) <= r and abs(i - x) <= r]
            expected[y, x] = sum(a * grey[y, x] + b for a, b in near) / len(near)
    found = guided_filter(level[None, None], grey.expand(1, 3, 7, 9), r)[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_blurred_border_moves_to_the_edge():
    image = torch.full((1, 3, 16, 40), 0.2)
    image[..., 20:] = 0.9
    blurred = torch.linspace(-1, 1, 40).clamp(-0.3, 0.3).expand(1, 1, 16, 40) + 0.05
    found = guided_filter(blurred, image, 8)[0, 0, 8]
    step = found[20] - found[19]
    assert step > 5 * (blurred[0, 0, 8, 20] - blurred[0, 0, 8, 19])
    assert (found[19] < 0) == (blurred[0, 0, 0, 18] < 0)


@pytest.mark.parametrize("radius", [1, 30])
def test_constant_maps_stay(radius):
    image = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    maps = torch.tensor([1.5, -2.0]).view(1, 2, 1, 1).expand(2, 2, 12, 20)
    torch.testing.assert_close(guided_filter(maps, image, radius), maps, atol=1e-4, rtol=0)
