"""napari's writers: labels layers as OME-Zarr with their classes, or as GeoJSON for QuPath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from napari_wsss.errors import OutputError
from napari_wsss.panels.support.layers import METADATA
from napari_wsss.panels.support.written_labels import WrittenLabels

__all__ = ["write_geojson", "write_ome_zarr"]

_Layer = tuple[Any, Mapping[str, Any], str]


def write_ome_zarr(path: str, layers: Sequence[_Layer]) -> list[str]:
    """Write labels layers as OME-Zarr label images.

    Parameters
    ----------
    path
        The folder, ``NAME.ome.zarr``. Of several layers each gets its own, called
        ``NAME LAYER.ome.zarr``.
    layers
        Layer data of labels layers.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    OutputError
        If a layer cannot be saved like this, or something is there that must stay.
    DataError
        If names or values of the labels are no classes.
    """
    from napari_wsss.export import export_ome_zarr

    # All are looked at before the first is written.
    todo = [
        (_own_path(path, str(meta["name"]), len(layers)), WrittenLabels.of(data, meta))
        for data, meta, _ in layers
    ]
    return [
        str(
            export_ome_zarr(
                labels.pixels,
                target,
                labels.classes,
                mpp=labels.mpp,
                translation_px=labels.translation_px,
                overwrite=True,
            )
        )
        for target, labels in todo
    ]


def write_geojson(path: str, data: Any, meta: Mapping[str, Any]) -> list[str]:
    """Write the outlines of a labels layer for QuPath.

    Coordinates are pixels of the slide: those of the layer, times the slide pixels per label
    pixel where the layer says so, as the layers of results do.

    Parameters
    ----------
    path
        ``NAME.geojson`` or, compressed, ``NAME.geojson.gz``.
    data, meta
        Data and attributes of the layer.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    OutputError, DataError
        As `write_ome_zarr`.
    """
    from napari_wsss.export import export_geojson

    if not path.lower().endswith((".geojson", ".geojson.gz")):
        raise OutputError(f"{path} does not end in .geojson or .geojson.gz.")
    labels = WrittenLabels.of(data, meta)
    known = dict(meta.get("metadata") or {}).get(METADATA) or {}
    sy, sx = known.get("downsample", (1.0, 1.0))
    ty, tx = labels.translation_px
    # The centre of the first label pixel, in pixels of the slide from the centre of its
    # first pixel, less half a label pixel, is the corner of the first label pixel.
    offset = (ty * sy + 0.5 - sy / 2, tx * sx + 0.5 - sx / 2)
    export_geojson(
        labels.pixels,
        path,
        labels.classes,
        scale=(sy, sx),
        offset=offset,
        mpp_labels=labels.mpp,
        overwrite=True,
    )
    return [path]


def _own_path(path: str, name: str, count: int) -> Path:
    """Return `path` for a single layer, else a path with the layer's name in it."""
    whole = Path(path)
    stem = whole.name.removesuffix(".zarr").removesuffix(".ome")
    if count > 1:
        kept = "".join(c if c.isalnum() or c in " ._-[]" else "_" for c in name)
        stem = f"{stem} {kept}"
    return whole.with_name(f"{stem}.ome.zarr")
