"""How each tissue is stained: matrix, cytoplasm and nuclei of the four classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_wsss.samples.layout import LYMPHOCYTES, NECROSIS, STROMA, TUMOUR
from napari_wsss.samples.noise import Canvas, FloatImage, smoothstep
from napari_wsss.samples.nuclei import NucleusStyle, scatter, stamp_nuclei
from napari_wsss.samples.structure import cells, depth_um, flow

__all__ = ["draw_tissues"]

_TUMOUR = NucleusStyle(
    radius_um=4.0,
    radius_spread=0.18,
    elongation=(1.0, 2.1),
    irregularity=0.07,
    density=1.12,
    density_spread=0.26,
    vesicular=0.72,
    clumps=0.11,
    nucleoli=0.75,
)
_GIANT = NucleusStyle(
    radius_um=5.8,
    radius_spread=0.16,
    elongation=(1.0, 1.8),
    irregularity=0.1,
    density=1.2,
    density_spread=0.3,
    vesicular=0.55,
    clumps=0.12,
    nucleoli=0.7,
)
_SPINDLE = NucleusStyle(
    radius_um=2.5,
    radius_spread=0.2,
    elongation=(3.0, 9.0),
    irregularity=0.05,
    density=0.95,
    density_spread=0.22,
    vesicular=0.25,
    clumps=0.08,
)
_LYMPHOCYTE = NucleusStyle(
    radius_um=2.5,
    radius_spread=0.12,
    elongation=(1.0, 1.4),
    irregularity=0.05,
    density=1.35,
    density_spread=0.16,
    vesicular=0.15,
    clumps=0.16,
)
_PYKNOTIC = NucleusStyle(
    radius_um=1.7,
    radius_spread=0.35,
    elongation=(1.0, 1.6),
    irregularity=0.12,
    density=1.05,
    density_spread=0.35,
    vesicular=0.0,
    clumps=0.1,
)
_DUST = NucleusStyle(
    radius_um=0.75,
    radius_spread=0.35,
    elongation=(1.0, 2.0),
    irregularity=0.1,
    density=0.9,
    density_spread=0.4,
)
_GHOST = NucleusStyle(
    radius_um=3.6,
    radius_spread=0.2,
    elongation=(1.0, 1.6),
    irregularity=0.12,
    density=0.28,
    density_spread=0.35,
    vesicular=0.75,
    clumps=0.05,
)


@dataclass(frozen=True)
class Stains:
    """The (H, W) images that tissues are painted into, in place."""

    haematoxylin: FloatImage
    eosin: FloatImage
    nuclei: FloatImage
    cover: FloatImage

    def add(self, weight: FloatImage, haematoxylin: FloatImage, eosin: FloatImage) -> None:
        """Add a tissue's stain where `weight` says that it lies."""
        for image, amount in ((self.haematoxylin, haematoxylin), (self.eosin, eosin)):
            image += weight * np.maximum(amount, 0)


def draw_tissues(canvas: Canvas, truth: NDArray[np.uint8]) -> tuple[FloatImage, FloatImage]:
    """Stain the tissues of `truth`.

    Parameters
    ----------
    canvas
        The picture.
    truth
        (H, W) class indices, 255 for glass.

    Returns
    -------
    haematoxylin, eosin
        (H, W) amounts of stain, 0 on glass.
    """
    stains = Stains(canvas.zeros(), canvas.zeros(), canvas.zeros(), canvas.zeros())
    for draw, index in (
        (_draw_stroma, STROMA),
        (_draw_necrosis, NECROSIS),
        (_draw_lymphocytes, LYMPHOCYTES),
        (_draw_tumour, TUMOUR),
    ):
        where = truth == index
        weight = gaussian_filter(where.astype(np.float32), canvas.px(0.9))
        draw(canvas, stains, where, weight)
    h = stains.haematoxylin * (1 - 0.75 * stains.cover) + stains.nuclei
    e = stains.eosin * (1 - 0.55 * stains.cover)
    return h, e


def _draw_tumour(
    canvas: Canvas, stains: Stains, where: NDArray[np.bool_], weight: FloatImage
) -> None:
    """Nests of crowded, large, uneven nuclei with pale chromatin in amphophilic cytoplasm."""
    inside_um = depth_um(canvas, where)
    points = scatter(canvas, inside_um > 2.0, 8.2)
    eccentric = points + canvas.rng.normal(0, canvas.px(0.8), points.shape)
    giant = canvas.rng.uniform(size=len(points)) < 0.035
    stamp_nuclei(canvas, stains.nuclei, stains.cover, eccentric[~giant], _TUMOUR)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, eccentric[giant], _GIANT)
    lymphocytes = scatter(canvas, inside_um > 3.0, 60)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, lymphocytes, _LYMPHOCYTE)

    membrane, tint = cells(canvas, where, points)
    fine = canvas.fractal(2.2, 5)
    regional = canvas.noise(220)
    cytoplasm_h = 0.30 + 0.05 * fine + 0.05 * tint + 0.06 * regional
    cytoplasm_e = 0.50 + 0.05 * fine + 0.07 * tint + 0.08 * regional - 0.16 * membrane
    # Nests shrink from the stroma around them: here and there a pale cleft remains.
    cleft = smoothstep(inside_um, 3.5, 0.5) * smoothstep(canvas.noise(45), 0.6, 1.3)
    # Loose spots between cells.
    loose = smoothstep(canvas.fractal(14, 6), 1.6, 2.2)
    keep = 1 - np.maximum(0.85 * cleft, 0.8 * loose)
    stains.add(weight * keep, cytoplasm_h, cytoplasm_e)


def _draw_stroma(
    canvas: Canvas, stains: Stains, where: NDArray[np.bool_], weight: FloatImage
) -> None:
    """Wavy bundles of collagen along a smooth flow, with few slender nuclei."""
    depth = depth_um(canvas, where)
    across, along = flow(canvas, depth)
    wave = (2.6 + 1.2 * canvas.noise(120)) * np.sin(along / 8.5 + 3.0 * canvas.noise(45))
    bundles = canvas.streaks(across + wave, along, 6.0, 55)
    fibres = canvas.streaks(across + 1.3 * wave, along + 9 * canvas.noise(9), 2.3, 26)
    threads = canvas.streaks(across + 0.8 * wave, along + 9 * canvas.noise(6), 1.2, 15)
    dense = canvas.noise(170)  # from oedematous to hyalinised
    fibre = 0.45 * bundles + 0.6 * fibres + 0.55 * threads
    clefts = canvas.streaks(across + wave, along, 3.2, 34) + 0.35 * fibre
    gaps = smoothstep(clefts + 0.3 * dense, -0.85, -1.7)
    eosin = 0.48 + 0.19 * fibre + 0.09 * dense + 0.05 * canvas.fractal(1.5, 4)
    haematoxylin = 0.10 + 0.035 * fibre + 0.02 * canvas.noise(60)
    stains.add(weight * (1 - 0.7 * gaps), haematoxylin, np.maximum(eosin, 0.22))

    dy, dx = np.gradient(gaussian_filter(across + wave, canvas.px(2.0)))
    angle = np.arctan2(-dx, dy)  # along the fibres: at right angles to the gradient
    inside = depth > 1.5
    crowded = canvas.noise(110)
    for chosen, spacing_um in ((crowded > 0.3, 13.0), (crowded <= 0.3, 21.0)):
        points = scatter(canvas, inside & chosen, spacing_um)
        y, x = np.rint(points).astype(int).T
        turned = angle[y, x] + canvas.rng.normal(0, 0.13, len(points))
        stamp_nuclei(canvas, stains.nuclei, stains.cover, points, _SPINDLE, turned)
    strays = scatter(canvas, inside & (canvas.noise(60) > 0.8), 14)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, strays, _LYMPHOCYTE)


def _draw_lymphocytes(
    canvas: Canvas, stains: Stains, where: NDArray[np.bool_], weight: FloatImage
) -> None:
    """Sheets of small, round, dark nuclei with hardly any cytoplasm."""
    inside = weight > 0.85  # about 1 µm from the border
    packing = canvas.fractal(60, 25)
    for low, high, spacing_um in ((-9, -1.2, 5.8), (-1.2, 0.4, 4.8), (0.4, 9, 4.4)):
        chosen = (packing > low) & (packing <= high)
        points = scatter(canvas, inside & chosen, spacing_um)
        points += canvas.rng.normal(0, canvas.px(0.5), points.shape)
        stamp_nuclei(canvas, stains.nuclei, stains.cover, points, _LYMPHOCYTE)
    fine = canvas.fractal(3, 8)
    stains.add(weight, 0.18 + 0.06 * fine, np.maximum(0.31 + 0.10 * fine, 0.12))


def _draw_necrosis(
    canvas: Canvas, stains: Stains, where: NDArray[np.bool_], weight: FloatImage
) -> None:
    """Smudged, granular debris with ghosts of cells and dust of broken nuclei."""
    inside = weight > 0.85  # about 1 µm from the border
    ghosts = scatter(canvas, inside, 9.5, 0.7)
    membrane, tint = cells(canvas, where, ghosts)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, ghosts, _GHOST)
    dusty = canvas.fractal(70, 22)
    dust = scatter(canvas, inside & (dusty > 0.2), 3.4, 0.5)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, dust, _DUST)
    pyknotic = scatter(canvas, inside & (dusty > -0.6), 10, 0.8)
    stamp_nuclei(canvas, stains.nuclei, stains.cover, pyknotic, _PYKNOTIC)
    grains = canvas.fractal(1.5, 4, 11, decay=0.8)
    patchy = canvas.fractal(90, 30)
    eosin = 0.50 + 0.10 * grains + 0.09 * patchy + 0.05 * tint - 0.08 * membrane
    stains.add(weight, 0.13 + 0.03 * grains + 0.03 * dusty, eosin)
