"""Random views of H&E tiles: what differs between them shall not matter to the encoder.

Which changes to make is what self-supervision hangs on. Tissue has no upright, so all
eight symmetries of the square are used; magnification carries meaning, so views zoom less
than is usual for photographs; and what differs between laboratories are the amounts of the
two stains, so these are changed in optical density, besides the colours as a camera sees
them (Nisar and Lampert 2024, arXiv 2412.15389).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.settings import ViewSettings
from napari_wsss.training.augment import dihedral, jitter_stain

__all__ = ["random_colors", "random_geometry", "random_view"]

F_ = TypeVar("F_", bound=Callable[..., Tensor])

# Luminance as in ITU-R 601.
_GREY = torch.tensor([0.299, 0.587, 0.114])
#: Standard deviations of the blur, in pixels, and the kernel that holds them.
_BLUR_PX, _KERNEL_PX = (0.3, 1.5), 7


def _full_precision(change: F_) -> F_:
    """Keep `change` out of autocast: bfloat16 is coarser than the 8 bits of an image."""

    @wraps(change)
    def inner(images: Tensor, *args: Any) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return change(images, *args)

    return cast("F_", inner)


def random_view(
    tiles: Tensor, side_px: int, settings: ViewSettings, generator: torch.Generator
) -> Tensor:
    """Return a random view (N, 3, side_px, side_px) of each tile.

    Parameters
    ----------
    tiles
        (N, 3, H, W), values 0 to 1.
    side_px
        Side of the views.
    settings
        How far they may differ.
    generator
        Source of every random number; the same state gives the same views.
    """
    parts = random_geometry(tiles, side_px, settings, generator)
    return random_colors(parts, settings, generator)


@_full_precision
def random_geometry(
    tiles: Tensor, side_px: int, settings: ViewSettings, generator: torch.Generator
) -> Tensor:
    """Return a random square part of each tile, enlarged to `side_px`, flipped and turned."""
    n = len(tiles)
    area, y, x = torch.rand((3, n), generator=generator)
    side = (settings.crop + (1 - settings.crop) * area).sqrt()
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, 0, 2], theta[:, 1, 2] = (2 * x - 1) * (1 - side), (2 * y - 1) * (1 - side)
    grid = F.affine_grid(theta, [n, 3, side_px, side_px], align_corners=False)
    parts = F.grid_sample(tiles, grid.to(tiles), padding_mode="border", align_corners=False)
    return dihedral(parts, torch.rand((3, n), generator=generator) < 0.5)


@_full_precision
def random_colors(images: Tensor, settings: ViewSettings, generator: torch.Generator) -> Tensor:
    """Return images (N, 3, H, W) with other stains, colours and sharpness."""
    n = len(images)
    if settings.stain > 0:
        images = jitter_stain(images, settings.stain, generator)
    grey = _GREY.to(images).view(1, 3, 1, 1)
    if settings.color > 0:
        change = (torch.rand((3, n, 1, 1, 1), generator=generator) * 2 - 1).to(images)
        contrast, saturation = 1 + settings.color * change[0], 1 + settings.color * change[1]
        mean = images.mean((1, 2, 3), keepdim=True)
        images = (images - mean) * contrast + mean + 0.5 * settings.color * change[2]
        luminance = (images * grey).sum(1, keepdim=True)
        images = ((images - luminance) * saturation + luminance).clamp(0, 1)
    without = torch.rand((n, 1, 1, 1), generator=generator) < settings.grey
    images = torch.where(without.to(images.device), (images * grey).sum(1, keepdim=True), images)
    low, high = _BLUR_PX
    sigma = low + (high - low) * torch.rand(n, generator=generator)
    # A blur of (nearly) no width leaves an image as it is.
    sigma = torch.where(torch.rand(n, generator=generator) < settings.blur, sigma, 1e-3)
    return images if settings.blur == 0 else _blurred(images, sigma.to(images))


def _blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur each image by a Gaussian of its own `sigma` (N,), in pixels."""
    n, channels, height, width = images.shape
    at = torch.arange(_KERNEL_PX, device=images.device) - _KERNEL_PX // 2
    kernel = torch.exp(-(at**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    flat = images.reshape(1, n * channels, height, width)
    flat = F.pad(flat, [_KERNEL_PX // 2] * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=n * channels)
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=n * channels)
    return flat.reshape(images.shape)
