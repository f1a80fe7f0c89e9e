"""Cells of the grid from an explanation: class maps, the pseudo mask, how certain it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap, ensure_colormap
from numpy.typing import NDArray

from napari_wsss.panels.cams_grid import Cell
from napari_wsss.panels.support.layers import LayerData, image_layer, labels_layer, map_layer

if TYPE_CHECKING:
    from napari_wsss.panels.cams_work import Found

__all__ = [
    "cells_of",
    "evidence_colormap",
    "label_pixels",
    "map_options",
    "patch_place",
]

#: Share of the scale over which maps fade out towards no evidence, so that tissue shows.
_FADE = 0.3


def patch_place(mpp: float | None, others: Sequence[float | None]) -> dict[str, Any]:
    """Return what places a patch: at the origin, in units that do not upset other layers.

    napari gives up the units of all layers, with a warning for each, as soon as they differ.

    Parameters
    ----------
    mpp
        µm/px of the patch; None if it is not known.
    others
        µm/px of the other layers in the viewer; None for those that are in pixels.
    """
    if any(other is None for other in others):
        return {}
    if mpp is None:  # a pixel is drawn as one µm; the panel says that it is not known
        return {"units": ("µm", "µm")} if others else {}
    return {"scale": (mpp, mpp), "units": ("µm", "µm")}


@cache
def evidence_colormap() -> Colormap:
    """Return the colours of class maps.

    Viridis, which rises evenly for colour-blind eyes too and is unlike any stain, fading out
    where there is no evidence.
    """
    colors = np.array(ensure_colormap("viridis").colors)
    colors[:, 3] = np.clip(np.linspace(0, 1 / _FADE, len(colors)), 0, 1)
    return Colormap(colors, name="class evidence")


def map_options(options: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the options of a map that lies over a picture."""
    return {
        **options,
        "name": name,
        "blending": "translucent_no_depth",
        "colormap": evidence_colormap(),
        "opacity": 0.75,
    }


def cells_of(
    shown: Found, place: dict[str, Any], index: int, mask: NDArray[np.uint8]
) -> list[Cell]:
    """Return one cell per class, one of the pseudo mask, and one of how certain it is.

    Parameters
    ----------
    shown
        The patch or region.
    place
        Options of the layers that say where it lies.
    index
        Of the maps, as in `Explanation.pseudo_mask`.
    mask
        The pseudo mask (H, W).
    """
    found, name = shown.explanation, shown.name

    def under(what: str) -> LayerData:
        data, options, kind = image_layer([found.image], f"{name} under {what}", None)
        return data, {**options, **place}, kind

    def over(pixels: NDArray[Any], what: str) -> LayerData:
        data, options, kind = map_layer([pixels], [what], None)
        return data, {**map_options(options, what), **place}, kind

    cells = []
    for k, chance in enumerate(found.probabilities):
        title = f"{found.classes.names[k]} ({chance:.2f})"
        cells.append(Cell(under(found.classes.names[k]), over(found.maps[index, k], title)))
    labels, options, kind = labels_layer([label_pixels(mask)], "pseudo mask", None, found.classes)
    options = {**options, "blending": "translucent_no_depth", "opacity": 0.6, **place}
    cells.append(Cell(under("pseudo mask"), (labels, options, kind), linked=False))
    if shown.joint or found.depths > 1:
        what = "certainty" if shown.joint else "depths agree"
        data, options, kind = over(found.agreement, what)
        sure = (data, {**options, "colormap": "cividis"}, kind)
        cells.append(Cell(under("certainty"), sure, linked=False))
    return cells


def label_pixels(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return class indices as a labels layer shows them: index + 1, nothing for no class."""
    return mask + np.uint8(1)  # 255, which is no class, becomes 0
