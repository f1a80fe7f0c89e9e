"""Which layers of a viewer show which result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.layers import Labels

from napari_wsss.panels.support.layers import METADATA

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["layers_of", "raw", "result_of"]

_RESULT_PARTS = ("labels", "segmentation", "0")


def raw(layer: Any) -> Any:
    """Return the layer itself, of which a plugin gets a proxy."""
    return getattr(layer, "__wrapped__", layer)


def result_of(layer: Layer) -> Path | None:
    """Return the ``NAME.ome.zarr`` whose labels a layer shows; None if it shows none."""
    layer = raw(layer)
    if not isinstance(layer, Labels):
        return None
    said = _said(layer)
    if said is not None:
        return said
    finest = layer.data[0] if layer.multiscale else layer.data
    place = getattr(finest, "store_path", None)
    root = getattr(getattr(place, "store", None), "root", None)
    if place is None or root is None:
        return None
    path = Path(root) / place.path
    if path.parts[-3:] != _RESULT_PARTS or not (path.parents[2] / "run.json").is_file():
        return None
    return path.parents[2]


def layers_of(viewer: napari.viewer.Viewer, path: Path) -> list[Layer]:
    """Return the layers in a viewer that show the result at `path`: labels and uncertainty."""
    found = []
    for layer in map(raw, tuple(viewer.layers)):
        shown = _said(layer) or result_of(layer)
        if shown is not None and shown.absolute() == path.absolute():
            found.append(layer)
    return found


def _said(layer: Layer) -> Path | None:
    """Return the result that the metadata of a layer name."""
    said = layer.metadata.get(METADATA, {}).get("result")
    return None if said is None else Path(said)
