"""Regions as GeoJSON annotations that QuPath opens.

QuPath reads a FeatureCollection whose features carry `objectType`, `classification` and
`measurements` in their properties, with coordinates in pixels of the full-resolution
image: https://qupath.readthedocs.io/en/stable/docs/advanced/exporting_annotations.html
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.export.blocks import LabelArray, mpp_yx, pair
from napari_wsss.export.polygons import Region, polygons_from_labels
from napari_wsss.files import atomic_write

if TYPE_CHECKING:
    from shapely import LinearRing, Polygon

__all__ = ["export_geojson"]


def export_geojson(
    labels: LabelArray,
    path: str | Path,
    classes: ClassTable,
    *,
    scale: float | tuple[float, float] = 1.0,
    offset: tuple[float, float] = (0.0, 0.0),
    mpp_labels: float | tuple[float, float] | None = None,
    min_area_px: float = 0.0,
    simplify_px: float = 0.0,
    block_px: int = 2048,
    overwrite: bool = False,
) -> int:
    """Write one annotation per connected region, holes kept.

    Parameters
    ----------
    labels
        The finest stored level, shape (H, W), uint8: class index + 1, 0 background,
        255 not computed. Read block by block.
    path
        The file to write; a name that ends in ``.gz`` is compressed. The same labels give
        the same bytes.
    classes
        The classes of the labels; their names and colours become QuPath's.
    scale
        Slide pixels (level 0) per label pixel, one number or (y, x).
    offset
        Position (y, x) of the first label pixel's corner on the slide, in level-0 pixels.
    mpp_labels
        Size of a *label* pixel in µm, one number or (y, x); None if unknown. With it every
        annotation carries its area in mm².
    min_area_px
        Regions of fewer label pixels are left out.
    simplify_px
        Largest distance in label pixels by which an outline may be straightened. At 0
        outlines are exact and neighbours share them; above, gaps and overlaps of that
        size appear between neighbours.
    block_px
        Side of the blocks that are read and traced one at a time.
    overwrite
        Whether a file that is there may be replaced.

    Returns
    -------
    int
        Number of annotations written.

    Raises
    ------
    OutputError
        If the file exists and `overwrite` is false, or it cannot be written.
    DataError
        If the labels cannot be read or do not fit the classes, or a number is out of bounds.
    MissingResolutionError
        If `mpp_labels` is given and not a positive number.
    """
    scale_yx = pair(scale, "scale to level 0")
    mpp = mpp_yx(mpp_labels)
    if not all(isfinite(v) for v in offset):
        raise DataError(f"The offset is {offset}; it must be two finite numbers.")
    for name, value in (("min_area_px", min_area_px), ("simplify_px", simplify_px)):
        if not value >= 0:
            raise DataError(f"{name} is {value}; it must be 0 or more.")
    count = 0
    with ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(atomic_write(path, overwrite=overwrite))
        if Path(path).suffix == ".gz":
            # Neither name nor time in the header, so that equal labels give equal bytes.
            zipped = gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6)
            file = cast(IO[bytes], stack.enter_context(zipped))
        file.write(b'{"type": "FeatureCollection", "features": [')
        regions = polygons_from_labels(
            labels, len(classes), block_px=block_px, min_area_px=min_area_px
        )
        for feature in _features(regions, classes, scale_yx, offset, mpp, simplify_px):
            text = json.dumps(feature, ensure_ascii=False, allow_nan=False)
            file.write((",\n" if count else "\n").encode() + text.encode())
            count += 1
        file.write(b"\n]}\n")
    return count


def _features(
    regions: Iterator[Region],
    classes: ClassTable,
    scale_yx: tuple[float, float],
    offset_yx: tuple[float, float],
    mpp_yx: tuple[float, float] | None,
    simplify_px: float,
) -> Iterator[dict[str, Any]]:
    """Yield one GeoJSON feature per region."""
    for region in regions:
        info = classes.classes[region.class_index]
        exact = region.polygon
        outline = _on_slide(_simplified(exact, simplify_px), scale_yx, offset_yx)
        # The area of the pixels themselves, whatever simplification did to the outline.
        measurements = {"Area px^2": exact.area * scale_yx[0] * scale_yx[1]}
        if mpp_yx:
            measurements["Area mm^2"] = exact.area * mpp_yx[0] * mpp_yx[1] * 1e-6
        yield {
            "type": "Feature",
            "id": str(uuid5(NAMESPACE_URL, f"{info.name}/{outline.wkb_hex}")),
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    _positions(ring) for ring in (outline.exterior, *outline.interiors)
                ],
            },
            "properties": {
                "objectType": "annotation",
                "classification": {"name": info.name, "color": list(info.rgb)},
                "isLocked": False,
                "measurements": measurements,
            },
        }


def _simplified(polygon: Polygon, tolerance_px: float) -> Polygon:
    if not tolerance_px:
        return polygon
    simple = polygon.simplify(tolerance_px, preserve_topology=True)
    # Straightened holes can cross each other; an exact outline is better than a broken one.
    if simple.is_valid and simple.geom_type == "Polygon":
        return cast("Polygon", simple)
    return polygon


def _on_slide(
    polygon: Polygon, scale_yx: tuple[float, float], offset_yx: tuple[float, float]
) -> Polygon:
    from shapely import transform

    (sy, sx), (oy, ox) = scale_yx, offset_yx
    return transform(polygon, lambda xy: xy * (sx, sy) + (ox, oy))


def _positions(ring: LinearRing) -> list[list[float]]:
    """Return (x, y) to 1/1000 px; a ring of whole pixels without decimal points."""
    from shapely import get_coordinates

    points = get_coordinates(ring).round(3)
    whole = points.astype(np.int64)
    return whole.tolist() if (whole == points).all() else points.tolist()
