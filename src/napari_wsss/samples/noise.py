"""Smooth random fields, all in micrometres, on which the drawing of the slide rests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter, map_coordinates

__all__ = ["Canvas", "FloatImage", "smoothstep"]

FloatImage = NDArray[np.float32]


def smoothstep(x: FloatImage, low: float, high: float) -> FloatImage:
    """Rise smoothly from 0 at `low` to 1 at `high`; falls if `high` < `low`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@dataclass(frozen=True)
class Canvas:
    """Size, resolution and random generator of the picture being drawn.

    Attributes
    ----------
    shape
        (H, W) in pixels.
    mpp
        Micrometres per pixel.
    rng
        Source of every random choice; fields drawn from it depend on the order of calls.
    """

    shape: tuple[int, int]
    mpp: float
    rng: np.random.Generator

    def zeros(self) -> FloatImage:
        """Return an (H, W) image of zeros."""
        return np.zeros(self.shape, np.float32)

    def px(self, length_um: float) -> float:
        """Convert a length from micrometres to pixels."""
        return length_um / self.mpp

    def noise(self, scale_um: float) -> FloatImage:
        """Return an (H, W) field of mean 0, deviation 1 and features of about `scale_um`.

        Random knots joined by cubic B-splines: twice differentiable, and cheap because
        the two axes separate. Features below two pixels are not resolved.
        """
        step = max(self.px(scale_um), 1.5)
        rows, columns = (_spline_matrix(n, step) for n in self.shape)
        knots = self.rng.standard_normal((rows.shape[1], columns.shape[1])).astype(np.float32)
        field = rows @ (columns @ knots.T).T
        # A cubic B-spline keeps 0.479 of the variance of white knots along either axis.
        return (field / np.float32(0.479)).astype(np.float32)

    def fractal(self, *scales_um: float, decay: float = 0.6) -> FloatImage:
        """Sum `noise` over `scales_um`, each `decay` times weaker than the one before."""
        field, power = self.zeros(), 0.0
        for i, scale in enumerate(scales_um):
            field += np.float32(decay**i) * self.noise(scale)
            power += decay ** (2 * i)
        return field / np.float32(power**0.5)

    def streaks(
        self, across_um: FloatImage, along_um: FloatImage, width_um: float, length_um: float
    ) -> FloatImage:
        """Draw fibres: noise that is fine across and long along a curved coordinate system.

        Parameters
        ----------
        across_um, along_um
            (H, W) coordinates of every pixel across and along the fibres.
        width_um, length_um
            Size of one fibre.

        Returns
        -------
        ndarray
            (H, W) float32, mean about 0, deviation about 1.
        """
        # A texture of 1024 x 128 cells repeats only far away, where nobody sees it.
        texture = self.rng.standard_normal((1024, 128)).astype(np.float32)
        texture = gaussian_filter(texture, 0.7, mode="wrap")
        texture /= texture.std()
        where = np.stack([across_um / np.float32(width_um), along_um / np.float32(length_um)])
        return map_coordinates(texture, where, order=1, mode="grid-wrap", output=np.float32)


def _spline_matrix(count: int, step: float) -> NDArray[np.float32]:
    """Return (count, knots) weights of cubic B-splines with a knot every `step` pixels."""
    knots = np.arange(-3, int(np.ceil(count / step)) + 5)
    return BSpline.design_matrix(np.arange(count) / step, knots, 3).astype(np.float32)
