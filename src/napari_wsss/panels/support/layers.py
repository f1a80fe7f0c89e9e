"""Every layer that napari-wsss makes, as layer data: scale, units, colours in one place.

napari drops the units of all layers as soon as one disagrees, so all layers of a slide get
theirs from here. Where µm/px are unknown, layers stay in pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.panels.support.units import make_units_ready

__all__ = [
    "METADATA",
    "LayerData",
    "image_layer",
    "label_colors",
    "labels_layer",
    "map_layer",
    "mark_shown",
    "named_result",
    "only_shown",
    "uncertainty_look",
]

#: Key in the metadata of layers under which we keep what a file of them needs.
METADATA = "napari_wsss"

#: Data, keyword arguments of the layer, and its type, as napari's readers return them.
LayerData = tuple[Any, dict[str, Any], str]
#: Stored label of pixels that were not computed; drawn in faint grey.
_NOT_COMPUTED, _NOT_COMPUTED_COLOR = 255, "#80808040"
_CLEAR = "#00000000"


def named_result(layer: Any) -> Path | None:
    """Return the result that the metadata of a layer name; None if they name none."""
    name = layer.metadata.get(METADATA, {}).get("result")
    return None if name is None else Path(name)


def mark_shown(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a layer that a panel shows for a while, which is nobody's slide."""
    metadata = dict(options.get("metadata") or {})
    metadata[METADATA] = {**metadata.get(METADATA, {}), "shown": True}
    return {**options, "metadata": metadata}


def only_shown(layer: Any) -> bool:
    """Whether the options of a layer were marked by `mark_shown`."""
    return bool(layer.metadata.get(METADATA, {}).get("shown"))


def image_layer(levels: Sequence[Any], name: str, mpp: float | None) -> LayerData:
    """Return an RGB image layer.

    Parameters
    ----------
    levels
        Arrays (H, W, 3) uint8, finest first.
    name
        Name of the layer.
    mpp
        µm/px of the finest level, None if unknown.
    """
    return _data(levels), {"name": name, "rgb": True, **_placed(levels, mpp)}, "image"


def labels_layer(
    levels: Sequence[Any],
    name: str,
    mpp: float | None,
    classes: ClassTable | None,
    translation_px: tuple[float, float] = (0.0, 0.0),
    downsample: tuple[float, float] | None = None,
) -> LayerData:
    """Return a labels layer with the colours and names of `classes`.

    Parameters
    ----------
    levels
        Arrays (H, W) uint8, finest first: 0 background, class index + 1, 255 not computed.
    name
        Name of the layer.
    mpp
        µm/px of the finest level, None if unknown.
    classes
        The class table; without one napari chooses colours.
    translation_px
        Centre (y, x) of the first pixel, in pixels of the finest level.
    downsample
        Pixels of the slide per pixel of the finest level, (y, x), where it is known: outlines
        are saved in pixels of the slide.
    """
    options = {"name": name, **_placed(levels, mpp, translation_px)}
    if downsample is not None:
        options["metadata"] = {METADATA: {"downsample": downsample}}
    if classes is not None:
        options["colormap"] = label_colors(classes)
        # napari shows these in the status bar and in its table of features.
        options["features"] = {
            "index": [0, *range(1, len(classes) + 1), _NOT_COMPUTED],
            "class": ["background", *classes.names, "not computed"],
        }
    return _data(levels), options, "labels"


def label_colors(classes: ClassTable, hidden: Collection[int] = ()) -> dict[int | None, str]:
    """Return the colours of stored labels.

    Parameters
    ----------
    classes
        The class table.
    hidden
        Indices of classes that are left out.
    """
    colors: dict[int | None, str] = {None: _CLEAR, 0: _CLEAR}
    for i, info in enumerate(classes.classes):
        colors[i + 1] = _CLEAR if i in hidden else info.color
    colors[_NOT_COMPUTED] = _NOT_COMPUTED_COLOR
    return colors


def uncertainty_look() -> dict[str, Any]:
    """Return how stored uncertainty is drawn: what is certain leaves the slide to be seen.

    255 is "not computed" and 254 the highest uncertainty.
    """
    from napari.utils import Colormap

    colors = [
        (0.3, 0.0, 0.45, 0.0),
        (0.55, 0.1, 0.5, 0.75),
        (1.0, 0.6, 0.1, 0.9),
        (1, 1, 0.6, 1),
    ]
    return {
        "contrast_limits": (0, 254),
        "blending": "translucent_no_depth",
        "colormap": Colormap(colors, name="uncertainty", high_color=(0.0, 0.0, 0.0, 0.0)),
    }


def map_layer(
    levels: Sequence[Any],
    names: Sequence[str],
    mpp: float | None,
    *,
    colormaps: Sequence[str] = ("magma",),
    translation_px: tuple[float, float] = (0.0, 0.0),
) -> LayerData:
    """Return a map of uncertainty or of class activations; napari makes a layer per channel.

    Parameters
    ----------
    levels
        Arrays (H, W) or (C, H, W), finest first; uint8, or float from 0 to 1.
    names, colormaps
        One per channel.
    mpp
        µm/px of the finest level, None if unknown.
    translation_px
        Centre (y, x) of the first pixel, in pixels of the finest level.
    """
    options = {
        # Left to napari, the limits would be found by reading every chunk.
        "contrast_limits": (0, 255 if levels[0].dtype == np.uint8 else 1),
        "blending": "additive",
        **_placed(levels, mpp, translation_px),
    }
    if levels[0].ndim == 3:
        options.update(channel_axis=0, name=list(names), colormap=list(colormaps))
    else:
        options.update(name=names[0], colormap=colormaps[0])
    return _data(levels), options, "image"


def _data(levels: Sequence[Any]) -> Any:
    return list(levels) if len(levels) > 1 else levels[0]


def _placed(
    levels: Sequence[Any],
    mpp: float | None,
    translation_px: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return what places a layer in the world, and whether it has several levels."""
    make_units_ready()  # napari makes the layer next
    options: dict[str, Any] = {"multiscale": len(levels) > 1, "axis_labels": ("y", "x")}
    scale = 1.0 if mpp is None else mpp
    if mpp is not None:
        options.update(scale=(mpp, mpp), units=("µm", "µm"))
    if any(translation_px):
        options["translate"] = tuple(scale * t for t in translation_px)
    return options
