"""Outlines of connected regions, traced block by block along exact pixel borders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from napari_wsss.export.blocks import NOT_COMPUTED, LabelArray, iter_blocks

if TYPE_CHECKING:
    from shapely import LinearRing, Polygon

__all__ = ["Region", "polygons_from_labels"]


@dataclass(frozen=True)
class Region:
    """One connected region of one class.

    Attributes
    ----------
    class_index
        Index of the class, 0 ... K-1.
    polygon
        Outline with holes, as (x, y) in label pixels; (0, 0) is the outer corner of the
        first pixel. Shells run counter-clockwise and holes clockwise in these numbers
        (RFC 7946), so clockwise and counter-clockwise on a screen, where y points down.
    """

    class_index: int
    polygon: Polygon


def polygons_from_labels(
    labels: LabelArray, n_classes: int, *, block_px: int = 2048, min_area_px: float = 0.0
) -> Iterator[Region]:
    """Trace every connected region of every class.

    Pixels are connected by their sides, not their corners. The outlines run along pixel
    borders, so that polygons of neighbouring classes share them, and drawing all polygons
    gives the labels back. The result does not depend on the block size.

    Parameters
    ----------
    labels
        Shape (H, W), uint8: class index + 1, 0 background, 255 not computed.
    n_classes
        Number of classes, K.
    block_px
        Side of the blocks that are read and traced one at a time. Memory holds one block
        and all outlines.
    min_area_px
        Regions smaller than this many label pixels are left out.

    Yields
    ------
    Region
        By class, then by position (top to bottom, left to right).

    Raises
    ------
    DataError
        If the labels cannot be read or hold a value that is no class.
    """
    from shapely import Polygon, get_parts, unary_union

    whole: dict[int, list[Polygon]] = defaultdict(list)
    cut: dict[int, list[Polygon]] = defaultdict(list)
    height, width = labels.shape if len(labels.shape) == 2 else (0, 0)
    for y, x, block in iter_blocks(labels, n_classes, block_px):
        inner = (  # sides of the block with another block behind them
            x if x > 0 else -1,
            y if y > 0 else -1,
            x + block.shape[1] if x + block.shape[1] < width else -1,
            y + block.shape[0] if y + block.shape[0] < height else -1,
        )
        for value, polygon in _trace(block, y, x):
            touches = any(a == b for a, b in zip(polygon.bounds, inner, strict=True))
            if touches:
                cut[value].append(polygon)
            elif polygon.area >= min_area_px:
                whole[value].append(polygon)
    for value in range(1, n_classes + 1):
        merged = [
            Polygon(_corners(p.exterior), [_corners(hole) for hole in p.interiors])
            for p in get_parts(unary_union(cut.pop(value, [])))
            if p.area >= min_area_px
        ]
        regions = [_canonical(p) for p in (*whole.pop(value, []), *merged)]
        regions.sort(key=lambda p: (p.bounds[1], p.bounds[0], p.bounds[3], p.bounds[2]))
        for polygon in regions:
            yield Region(value - 1, polygon)


def _trace(block: NDArray[np.uint8], y: int, x: int) -> Iterator[tuple[int, Polygon]]:
    """Yield stored label and polygon of each region in a block that begins at (y, x)."""
    from rasterio.features import shapes
    from rasterio.transform import Affine
    from shapely import Polygon

    wanted = (block > 0) & (block < NOT_COMPUTED)
    if not wanted.any():
        return
    traced = shapes(block, mask=wanted, connectivity=4, transform=Affine.translation(x, y))
    for geometry, value in traced:
        shell, *holes = geometry["coordinates"]
        yield int(value), Polygon(shell, holes)


def _corners(ring: LinearRing) -> NDArray[np.float64]:
    """Return the (n, 2) vertices of a rectilinear ring without those on a straight side.

    Merging leaves a vertex wherever a side crossed the border of a block.
    """
    from shapely import get_coordinates

    points = get_coordinates(ring)[:-1]
    ahead = np.roll(points, -1, axis=0) - points
    behind = np.roll(ahead, 1, axis=0)
    return points[ahead[:, 0] * behind[:, 1] != ahead[:, 1] * behind[:, 0]]


def _canonical(polygon: Polygon) -> Polygon:
    """Return the polygon with fixed start points, order of holes and winding."""
    from shapely.geometry.polygon import orient

    return orient(cast("Polygon", polygon.normalize()), 1.0)
