"""Where the tissues lie: the truth of the synthetic slide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from napari_wsss.classes import IGNORE
from napari_wsss.samples.noise import Canvas, FloatImage

__all__ = ["LYMPHOCYTES", "NECROSIS", "STROMA", "TUMOUR", "draw_layout"]

TUMOUR, STROMA, LYMPHOCYTES, NECROSIS = range(4)
#: Share of the tissue that each class is to cover before septa take from the tumour.
SHARES = (0.43, 0.25, 0.16, 0.16)


def draw_layout(canvas: Canvas) -> NDArray[np.uint8]:
    """Draw the map of tissues.

    Smooth scores, one per class, compete for every pixel, so areas of all sizes arise and
    meet in all combinations. Septa of stroma then divide the tumour into rounded nests.

    Returns
    -------
    ndarray
        (H, W) uint8: class index, or `IGNORE` for glass.
    """
    tissue = _tissue(canvas)
    scores = np.stack([canvas.fractal(230, 85, 28, decay=0.45) for _ in SHARES])
    # Necrosis is what becomes of the middle of tumours; lymphocytes gather in the stroma.
    scores[NECROSIS] += 0.45 * scores[TUMOUR]
    scores[LYMPHOCYTES] += 0.3 * scores[STROMA]
    scores += _balance(scores, tissue)[:, None, None]
    truth = np.argmax(scores, axis=0).astype(np.uint8)

    tumour = truth == TUMOUR
    truth[tumour & ~_nests(canvas, tumour)] = STROMA
    truth[~tissue] = IGNORE
    return truth


def _tissue(canvas: Canvas) -> NDArray[np.bool_]:
    """Return (H, W): True inside the section, which has a ragged outline and tears."""
    height, width = canvas.shape
    y = np.minimum(np.arange(height), np.arange(height)[::-1]).astype(np.float32)
    x = np.minimum(np.arange(width), np.arange(width)[::-1]).astype(np.float32)
    to_border_um = np.minimum(y[:, None], x[None, :]) * np.float32(canvas.mpp)
    size_um = min(canvas.shape) * canvas.mpp
    swing_um = min(95.0, 0.07 * size_um)
    margin_um = 0.8 * swing_um
    ragged = swing_um * canvas.noise(240) + 0.07 * swing_um * canvas.fractal(30, 12)
    inside = to_border_um + ragged > margin_um
    tears = _line(canvas, 260) < np.clip(11 * canvas.noise(120) - 10, 0, 12)
    return inside & ~tears


def _nests(canvas: Canvas, tumour: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return (H, W): True in the nests of `tumour`, False in the septa between them.

    Nests are Voronoi cells, shrunk by a varying amount (nothing in solid sheets) and
    rounded by a blur.
    """
    spacing_px = canvas.px(95)
    margin = 2 * spacing_px
    side = np.array(canvas.shape) + 2 * margin
    count = max(4, int(side.prod() / spacing_px**2))
    centres = canvas.rng.uniform(0, 1, (count, 2)) * side - margin
    warp = [canvas.px(9) * canvas.noise(40) for _ in range(2)]
    width_um = np.clip(14 * canvas.noise(210) + 8, 0, 34)
    inside = tumour.copy()
    y, x = np.nonzero(tumour & (width_um > 0))
    where = np.stack([y + warp[0][y, x], x + warp[1][y, x]], axis=1)
    nearest = cKDTree(centres).query(where, k=2, eps=0.05)[0]
    gap_um = (nearest[:, 1] - nearest[:, 0]) * canvas.mpp
    inside[y, x] = gap_um > width_um[y, x]
    return gaussian_filter(inside.astype(np.float32), canvas.px(5)) > 0.5


def _line(canvas: Canvas, scale_um: float) -> FloatImage:
    """Return (H, W): distance in µm to a set of winding lines, exact close to them."""
    field = canvas.fractal(scale_um, scale_um / 5, decay=0.12)
    dy, dx = np.gradient(field, canvas.mpp)
    return np.abs(field) / np.maximum(np.hypot(dy, dx), 1e-4)


def _balance(scores: FloatImage, tissue: NDArray[np.bool_]) -> FloatImage:
    """Return the (K,) offsets of `scores` with which each class covers its share of tissue."""
    step = max(1, min(tissue.shape) // 128)
    sample = scores[:, ::step, ::step][:, tissue[::step, ::step]]
    offsets = np.zeros(len(SHARES), np.float32)
    if sample.shape[1] == 0:
        return offsets
    for i in range(60):
        winners = np.argmax(sample + offsets[:, None], axis=0)
        shares = np.bincount(winners, minlength=len(SHARES)) / sample.shape[1]
        offsets += (np.array(SHARES) - shares) * 1.5 / (1 + 0.05 * i)
    return offsets
