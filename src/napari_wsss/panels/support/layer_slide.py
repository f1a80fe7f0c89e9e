"""Layers as slides: also those that napari or another plugin opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_wsss.errors import SlideError, WsssError
from napari_wsss.panels.support.layers import named_result, only_shown

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsss.slides import Slide

__all__ = ["is_picture", "layer_mpp", "may_be_slide", "slide_of", "slide_problem", "slide_size"]

#: Smaller images hold no patch of any model.
_SMALLEST_PX = 32
_MICROMETRES = {"micrometer": 1.0, "millimeter": 1e3, "nanometer": 1e-3, "meter": 1e6}


def may_be_slide(layer: Layer) -> bool:
    """Whether a layer is offered where a slide is chosen: any RGB image."""
    return is_picture(layer) and bool(getattr(layer, "rgb", False))


def is_picture(layer: Layer) -> bool:
    """Whether a layer is an image, RGB or not: what a user may take for a slide.

    Layers of results, such as their uncertainty, are none, nor are pictures of patches that a
    panel shows.
    """
    ours = named_result(layer) is not None or only_shown(layer)
    return type(layer).__name__ == "Image" and not ours


def slide_problem(layer: Layer | None) -> str | None:
    """Return why a layer cannot be used as a slide, in words for the user; None if it can.

    A missing µm/px is no such reason: it can be given.
    """
    if layer is None:
        return "Open a slide first, an RGB image: drop its file into the viewer."
    if not may_be_slide(layer):
        return (
            f"{layer.name} is not an RGB image, which a slide must be. Open a slide: drop its "
            "file into the viewer."
        )
    shape = _levels(layer)[0].shape
    if len(shape) != 3:
        extra = " x ".join(str(n) for n in shape[:-3])
        return (
            f"{layer.name} has more than two dimensions ({extra} planes). Save the plane you "
            "need as an image and open that."
        )
    if np.dtype(_levels(layer)[0].dtype) != np.uint8:
        return f"{layer.name} has {layer.dtype} pixels; 8-bit RGB is needed."
    if min(shape[:2]) < _SMALLEST_PX:
        return f"{layer.name} is only {shape[1]} x {shape[0]} px, too small to segment."
    scale = np.asarray(layer.scale, float)
    linear = np.asarray(layer.affine.linear_matrix, float)
    turned = np.any(layer.rotate != np.eye(2)) or np.any(layer.shear)
    factors = np.diag(linear)
    if turned or not np.allclose(linear, np.diag(factors)):
        return f"{layer.name} is rotated or sheared. Reset its transform to use it."
    if not np.allclose(factors, 1):
        return (
            f"{layer.name} is scaled by its affine transform ({factors[0]:g} x {factors[1]:g}). "
            "Reset that, and give the size of its pixels as the layer's scale."
        )
    if (scale <= 0).any():
        return f"{layer.name} is mirrored by a negative scale. Reset its transform to use it."
    if not np.isclose(scale[0], scale[1], rtol=0.01):
        return f"{layer.name} has pixels that are not square ({scale[0]:g} x {scale[1]:g})."
    return None


def layer_mpp(layer: Layer) -> float | None:
    """Return µm/px of a layer's finest level; None if its units are no lengths."""
    unit = str(layer.units[-1])
    if unit not in _MICROMETRES:
        return None
    return float(layer.scale[-1]) * _MICROMETRES[unit]


def slide_size(layer: Layer) -> tuple[int, int]:
    """Return height and width in px of a layer for which `slide_problem` is None."""
    height, width = _levels(layer)[0].shape[:2]
    return int(height), int(width)


def slide_of(layer: Layer, mpp: float | None = None) -> Slide:
    """Return the slide behind a layer.

    Parameters
    ----------
    layer
        For which `slide_problem` is None.
    mpp
        µm/px where the layer does not say it; overrules what it says.

    Returns
    -------
    Slide
        The file itself where it can be opened as a slide of the same size, which is quicker
        and can be shared among processes; else the layer's arrays.

    Raises
    ------
    SlideError
        If the layer cannot be used.
    """
    from napari_wsss.slides import open_slide

    problem = slide_problem(layer)
    if problem is not None:
        raise SlideError(problem)
    levels = _levels(layer)
    mpp = layer_mpp(layer) if mpp is None else mpp
    path = layer.source.path
    if path is not None and Path(path).exists():
        try:
            slide = open_slide(path, mpp=mpp)
        except WsssError:
            pass  # a format that another plugin reads
        else:
            if slide.shape == levels[0].shape[:2]:
                return slide
            slide.close()
    return open_slide(levels, mpp=mpp, name=_file_name(layer.name))


def _levels(layer: Layer) -> list:
    return list(layer.data) if layer.multiscale else [layer.data]


def _file_name(name: str) -> str:
    """Return a layer's name as a part of file names."""
    kept = "".join(c if c.isalnum() or c in " ._-" else "_" for c in name).strip(" .")
    return kept or "slide"
