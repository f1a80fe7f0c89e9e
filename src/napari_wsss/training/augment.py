"""Random changes of training patches, on tensors, reproducible from a generator."""

from __future__ import annotations

import torch
from torch import Tensor

from napari_wsss.settings import AugmentationSettings

__all__ = ["augment", "dihedral", "jitter_stain"]

# Optical density of haematoxylin, eosin and a residual, rows of unit length
# (Ruifrok and Johnston 2001, "Quantification of histochemical staining by color
# deconvolution").
_STAINS = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])


def augment(
    images: Tensor,
    masks: Tensor | None,
    settings: AugmentationSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    """Change a batch at random, masks along with their images.

    Parameters
    ----------
    images
        (N, 3, H, W), values 0 to 1.
    masks
        (N, D, H, W) class indices, or None.
    settings
        What to change and how far.
    generator
        Source of every random number; the same state gives the same batch.

    Returns
    -------
    tuple of Tensor
        Images with values 0 to 1, and masks, of the same shapes.
    """
    # Colours keep full precision where the network computes in bfloat16, which is coarser
    # than the 8 bits of the image.
    with torch.autocast(images.device.type, enabled=False):
        return _augment(images, masks, settings, generator)


def _augment(
    images: Tensor,
    masks: Tensor | None,
    settings: AugmentationSettings,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor | None]:
    if settings.flips:
        flags = torch.rand((3, len(images)), generator=generator) < 0.5
        images = dihedral(images, flags)
        masks = None if masks is None else dihedral(masks, flags)
    if settings.stain > 0:
        images = jitter_stain(images, settings.stain, generator)
    if settings.color > 0:
        change = (torch.rand((2, len(images), 1, 1, 1), generator=generator) * 2 - 1).to(images)
        contrast, brightness = 1 + settings.color * change[0], 0.5 * settings.color * change[1]
        mean = images.mean((1, 2, 3), keepdim=True)
        images = ((images - mean) * contrast + mean + brightness).clamp(0, 1)
    return images, masks


def dihedral(x: Tensor, flags: Tensor) -> Tensor:
    """Flip left-right, up-down and transpose each image where its (3, N) `flags` say so.

    Together these are the eight symmetries of the square; images that are not square are
    not transposed.
    """
    pick = flags.to(x.device).view(3, -1, 1, 1, 1)
    x = torch.where(pick[0], x.flip(-1), x)
    x = torch.where(pick[1], x.flip(-2), x)
    if x.shape[-1] == x.shape[-2]:
        x = torch.where(pick[2], x.transpose(-1, -2), x)
    return x


def jitter_stain(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Scale the haematoxylin and eosin of each image at random.

    By Beer-Lambert the optical density is a sum of stains; each stain's amount is
    multiplied by a factor within 1 +- `strength` (Tellez et al. 2018).

    Parameters
    ----------
    images
        (N, 3, H, W), values 0 to 1.
    strength
        Largest relative change.
    generator
        Source of the factors.
    """
    n = len(images)
    factors = 1 + strength * (torch.rand((n, 3), generator=generator) * 2 - 1)
    stains = torch.nn.functional.normalize(_STAINS, dim=1)
    # density' = density . S^-1 . diag(factors) . S, one 3 x 3 matrix per image
    change = torch.linalg.inv(stains) @ (factors[:, :, None] * stains)
    density = -torch.log(images.clamp_min(1 / 255))
    density = torch.einsum("nchw,ncd->ndhw", density, change.to(images))
    return torch.exp(-density.clamp_min(0))
