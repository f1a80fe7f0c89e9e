"""From amounts of stain to the colours of a scanner."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from napari_wsss.samples.noise import Canvas, FloatImage

__all__ = ["scan"]

#: Optical density in red, green and blue of one unit of stain.
_HAEMATOXYLIN = np.array([0.58, 0.73, 0.37])
_EOSIN = np.array([0.13, 0.85, 0.42])
_LAMP = np.array([243.0, 242.0, 245.0])


def scan(canvas: Canvas, haematoxylin: FloatImage, eosin: FloatImage) -> NDArray[np.uint8]:
    """Turn amounts of stain into an RGB image by Beer and Lambert's law.

    The stains' colour differs a little from seed to seed, their strength drifts over the
    slide, and optics and sensor add blur and noise.

    Parameters
    ----------
    canvas
        The picture.
    haematoxylin, eosin
        (H, W) optical density of either stain.

    Returns
    -------
    ndarray
        (H, W, 3) uint8.
    """
    rng = canvas.rng
    vectors = []
    for stain in (_HAEMATOXYLIN, _EOSIN):
        tinted = stain * np.exp(0.06 * np.clip(rng.standard_normal(3), -2, 2))
        vectors.append((tinted / np.linalg.norm(tinted)).astype(np.float32))
    drift = [np.exp(0.09 * canvas.noise(700) + 0.04 * canvas.noise(150)) for _ in range(2)]
    h, e = haematoxylin * drift[0], eosin * drift[1]
    blur_px = max(0.45, canvas.px(0.4))
    image = np.empty((*canvas.shape, 3), np.uint8)
    lamp = 1 + 0.008 * canvas.noise(500)
    for c in range(3):
        light = _LAMP[c] * lamp * np.exp(-(h * vectors[0][c] + e * vectors[1][c]))
        light = gaussian_filter(light.astype(np.float32), blur_px)
        noise = rng.standard_normal(canvas.shape, np.float32)
        light += noise * np.sqrt(0.4 + light / 80)
        image[..., c] = np.clip(np.rint(light), 0, 255)
    return image
