"""The order inside tissues: depth, division into cells, flow of fibres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from napari_wsss.samples.noise import Canvas, FloatImage

__all__ = ["cells", "depth_um", "flow"]


def depth_um(canvas: Canvas, where: NDArray[np.bool_]) -> FloatImage:
    """Return (H, W) distance in µm from each pixel of `where` to its outside."""
    return (distance_transform_edt(where) * canvas.mpp).astype(np.float32)


def cells(
    canvas: Canvas, where: NDArray[np.bool_], points: NDArray[np.float64]
) -> tuple[FloatImage, FloatImage]:
    """Divide `where` among the cells around `points`.

    Returns
    -------
    membrane, tint
        (H, W) 1 on borders between cells falling to 0; and a normal deviate per cell.
    """
    membrane, tint = canvas.zeros(), canvas.zeros()
    if len(points) < 2:
        return membrane, tint
    y, x = np.nonzero(where)
    distance, owner = cKDTree(points).query(np.stack([y, x], axis=1), k=2, eps=0.05)
    gap_um = (distance[:, 1] - distance[:, 0]) * canvas.mpp
    membrane[y, x] = np.exp(-((gap_um / 1.3) ** 2))
    tint[y, x] = canvas.rng.standard_normal(len(points))[owner[:, 0]]
    return membrane, gaussian_filter(tint, canvas.px(0.6))


def flow(canvas: Canvas, depth: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Return (H, W) coordinates in µm across and along the fibres.

    Fibres follow a common direction, wander, and bend around what they enclose; `depth` is
    (H, W), the distance in µm to what is not stroma.
    """
    y = np.arange(canvas.shape[0], dtype=np.float32)[:, None] * np.float32(canvas.mpp)
    x = np.arange(canvas.shape[1], dtype=np.float32)[None, :] * np.float32(canvas.mpp)
    angle = canvas.rng.uniform(0, np.pi)
    across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    along = y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))
    around = gaussian_filter(depth, canvas.px(9.0))
    across = (
        across + 130 * canvas.noise(330) + 13 * canvas.noise(80) + 0.7 * np.minimum(around, 45)
    )
    along = along + 150 * canvas.noise(330)
    return across, along
