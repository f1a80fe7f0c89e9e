"""Views: reproducible, within bounds, and different only as they are asked to be."""

from __future__ import annotations

import pytest
import torch

from napari_wsss.settings import ViewSettings
from napari_wsss.training.ssl_views import random_colors, random_geometry, random_view

OFF = {"crop": 1.0, "stain": 0.0, "color": 0.0, "grey": 0.0, "blur": 0.0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def tiles():
    return torch.rand(6, 3, 32, 32, generator=generator(9))


def test_the_same_state_gives_the_same_views(tiles):
    settings = ViewSettings()
    one, two = (random_view(tiles, 24, settings, generator(1)) for _ in range(2))
    assert one.shape == (6, 3, 24, 24)
    assert torch.equal(one, two)
    assert not torch.equal(one, random_view(tiles, 24, settings, generator(2)))
    assert 0 <= float(one.min()) <= float(one.max()) <= 1


def test_without_changes_only_flips_are_left(tiles):
    views = random_view(tiles, 32, ViewSettings(**OFF), generator())
    for tile, view in zip(tiles, views, strict=True):
        turned = [tile, tile.flip(-1), tile.flip(-2), tile.flip(-1, -2)]
        turned += [t.transpose(-1, -2) for t in turned]
        assert any(torch.allclose(t, view, atol=1e-5) for t in turned)


def test_a_view_shows_at_least_the_share_asked_for():
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)
    views = random_geometry(ramp, 64, ViewSettings(**{**OFF, "crop": 0.25}), generator())
    shown = views.amax((1, 2, 3)) - views.amin((1, 2, 3))
    assert 0.49 < float(shown.min()) < 0.6  # a quarter of the area is half of the side
    assert float(shown.max()) > 0.95


def test_each_change_does_what_it_says(tiles):
    def changed(**one):
        return random_colors(tiles, ViewSettings(**{**OFF, **one}), generator())

    assert torch.equal(changed(), tiles)
    grey = changed(grey=1.0)
    assert torch.allclose(grey[:, 0], grey[:, 2])
    blurred = changed(blur=1.0)
    assert float(blurred.std()) < float(tiles.std())
    assert torch.allclose(blurred.mean((2, 3)), tiles.mean((2, 3)), atol=0.03)
    for name in ("stain", "color"):
        assert 0.005 < float((changed(**{name: 0.3}) - tiles).abs().mean()) < 0.3


def test_colours_keep_their_precision_under_autocast(tiles):
    with torch.autocast("cpu", torch.bfloat16):
        views = random_view(tiles, 32, ViewSettings(), generator())
    assert views.dtype == torch.float32
    assert torch.equal(views, random_view(tiles, 32, ViewSettings(), generator()))
