"""Nuclei: where they lie and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from napari_wsss.samples.noise import Canvas, FloatImage

__all__ = ["NucleusStyle", "scatter", "stamp_nuclei"]

_CHUNK = 2048


@dataclass(frozen=True)
class NucleusStyle:
    """Look of one kind of nucleus; lengths in µm, amounts in units of haematoxylin.

    Attributes
    ----------
    radius_um, radius_spread
        Median radius, and the deviation of its logarithm.
    elongation
        Smallest and largest ratio of the axes.
    irregularity
        Deviation of the outline, as a share of the radius.
    density, density_spread
        Haematoxylin of the rim, and its relative deviation from nucleus to nucleus.
    vesicular
        How far the inside is paler than the rim: 0 solid, 1 empty.
    clumps
        Strength of chromatin clumps.
    nucleoli
        Haematoxylin added by a nucleolus.
    """

    radius_um: float
    radius_spread: float
    elongation: tuple[float, float]
    irregularity: float
    density: float
    density_spread: float
    vesicular: float = 0.0
    clumps: float = 0.0
    nucleoli: float = 0.0


def scatter(
    canvas: Canvas, where: NDArray[np.bool_], spacing_um: float, density: float = 1.0
) -> NDArray[np.float64]:
    """Scatter points at random, none closer to another than `spacing_um`.

    Parameters
    ----------
    canvas
        The picture.
    where
        (H, W) pixels that may hold a point.
    spacing_um
        Smallest distance between points.
    density
        1 packs points nearly as close as chance allows; less leaves gaps.

    Returns
    -------
    ndarray
        (N, 2) float64, y and x in pixels.
    """
    spacing_px = canvas.px(spacing_um)
    count = int(canvas.rng.poisson(2.2 * density * where.size / spacing_px**2))
    points = canvas.rng.uniform(0, 1, (count, 2)) * (np.array(where.shape) - 1)
    cell = np.rint(points).astype(int)
    points = points[where[cell[:, 0], cell[:, 1]]]
    kept = points[:0]
    # Points in random order of rank; each round keeps those that outrank all neighbours.
    for _ in range(3):
        if len(points) == 0:
            break
        pairs = cKDTree(points).query_pairs(spacing_px, output_type="ndarray")
        loser = np.zeros(len(points), bool)
        loser[pairs.max(axis=1)] = True
        kept = np.concatenate([kept, points[~loser]])
        far = cKDTree(kept).query(points, distance_upper_bound=spacing_px)[0] >= spacing_px
        points = points[far]
    return kept


def stamp_nuclei(
    canvas: Canvas,
    amount: FloatImage,
    cover: FloatImage,
    points: NDArray[np.float64],
    style: NucleusStyle,
    angles: NDArray[np.float64] | None = None,
) -> None:
    """Draw one nucleus at each of `points` into two images, in place.

    Parameters
    ----------
    canvas
        The picture.
    amount
        (H, W) haematoxylin of nuclei; where nuclei overlap the darker one shows.
    cover
        (H, W) share of each pixel that nuclei cover, 0 to 1.
    points
        (N, 2) centres, y and x in pixels.
    style
        The look.
    angles
        (N,) direction of the long axis in radians from the x axis; random if None.
    """
    for start in range(0, len(points), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        turned = None if angles is None else angles[chosen]
        _stamp(canvas, amount, cover, points[chosen], style, turned)


def _stamp(
    canvas: Canvas,
    amount: FloatImage,
    cover: FloatImage,
    points: NDArray[np.float64],
    style: NucleusStyle,
    angles: NDArray[np.float64] | None,
) -> None:
    rng, count = canvas.rng, len(points)

    def column(values: NDArray[np.float64]) -> FloatImage:
        return values.astype(np.float32)[:, None, None]

    if angles is None:
        angles = rng.uniform(0, np.pi, count)
    spread = np.clip(rng.standard_normal(count), -2.2, 2.2)
    radius = canvas.px(style.radius_um) * np.exp(style.radius_spread * spread)
    stretch = np.sqrt(rng.uniform(*style.elongation, count))

    half = int(np.ceil((radius * stretch).max() * (1 + 2 * style.irregularity))) + 1
    offset = np.arange(-half, half + 1)
    corner = np.rint(points).astype(int)
    y = offset[None, :, None] - column(points[:, 0] - corner[:, 0])
    x = offset[None, None, :] - column(points[:, 1] - corner[:, 1])
    cos, sin = column(np.cos(angles)), column(np.sin(angles))
    u = (x * cos + y * sin) / column(radius * stretch)
    v = (y * cos - x * sin) / column(radius / stretch)

    # Distance from the centre, 1 on the outline, which three harmonics deform.
    theta = np.arctan2(v, u)
    outline = np.ones_like(theta)
    for harmonic in (2, 3, 5):
        size = column(style.irregularity * rng.standard_normal(count) / harmonic**0.5)
        outline += size * np.cos(harmonic * theta + column(rng.uniform(0, 2 * np.pi, count)))
    rho = np.hypot(u, v) / np.maximum(outline, 0.4)
    edge = column(radius / stretch)  # pixels per unit of rho, across the thin axis
    shape = np.clip((1 - rho) * edge + 0.5, 0, 1)

    # Vesicular chromatin: a dark membrane around a pale inside with clumps and nucleoli.
    hollow = column(style.vesicular * rng.beta(2.0, 1.6, count))
    inside = 1 - hollow * np.clip(1.35 - 1.35 * rho**2, 0, 1)
    grain = rng.standard_normal(theta.shape, np.float32)
    inside = inside + np.float32(style.clumps) * grain
    if style.nucleoli:
        where_u, where_v = (column(rng.uniform(-0.4, 0.4, count)) for _ in range(2))
        dot = np.exp(-((u - where_u) ** 2 + (v - where_v) ** 2) / 0.06)
        inside = inside + column(style.nucleoli * rng.uniform(0, 1, count)) * dot
    darkness = np.clip(rng.standard_normal(count), -2, 2)
    density = style.density * np.exp(style.density_spread * darkness)
    value = shape * np.clip(inside, 0.05, 2) * column(density)

    rows = corner[:, 0, None, None] + offset[None, :, None]
    columns = corner[:, 1, None, None] + offset[None, None, :]
    seen = (shape > 0) & (rows >= 0) & (rows < canvas.shape[0])
    seen &= (columns >= 0) & (columns < canvas.shape[1])
    flat = (rows * canvas.shape[1] + columns)[seen]
    np.maximum.at(amount.reshape(-1), flat, value[seen].astype(np.float32))
    np.maximum.at(cover.reshape(-1), flat, shape[seen].astype(np.float32))
