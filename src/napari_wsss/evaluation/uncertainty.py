"""Whether a model knows where it is wrong: risk against coverage, and calibration.

*Risk against coverage*: pixels are put in the order of their uncertainty, the surest first. The
risk at a coverage of 0.8 is the share of errors among the surest 80 % of the pixels; the area
under this curve (AURC) sums it up (Geifman, Uziel and El-Yaniv 2019, *Bias-Reduced Uncertainty
Estimation for Deep Neural Classifiers*, ICLR). An order by chance has the error rate as its AURC.

*Calibration*: of pixels to which the model gives its class with probability 0.8, 80 % should be
right. The expected calibration error (ECE) is the mean gap over bins of probability, weighted by
their pixels (Guo et al. 2017, *On Calibration of Modern Neural Networks*, ICML, equation 3).

Both need the truth, and are for measuring only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError
from napari_wsss.evaluation.bootstrap import interval

__all__ = ["Reliability", "ReliabilityCounts"]

#: Steps of the stored uncertainty layer (0 to 254), in which pixels are put in order.
_STEPS = 255
#: Equal bins of probability for the calibration error, as many as Guo et al. take.
_BINS = 15


class ReliabilityCounts:
    """What one image says of a model's uncertainty, as counts that add up over images.

    Attributes
    ----------
    ranked
        (255, 2): pixels and errors at each step of uncertainty.
    binned
        (15, 3): pixels, correct pixels and the sum of probabilities in each bin.
    """

    def __init__(self) -> None:
        self.ranked = np.zeros((_STEPS, 2))
        self.binned = np.zeros((_BINS, 3))

    def update(
        self,
        truth: NDArray[np.uint8],
        prediction: NDArray[np.uint8],
        uncertainty: NDArray[np.floating[Any]],
        probability: NDArray[np.floating[Any]],
    ) -> ReliabilityCounts:
        """Count one image, or any part of one.

        Parameters
        ----------
        truth
            (H, W) class indices; `IGNORE` is left out.
        prediction
            (H, W) class indices.
        uncertainty
            (H, W), 0 to 1, as in the uncertainty layer of results.
        probability
            (H, W), 0 to 1: that of the predicted class.

        Returns
        -------
        ReliabilityCounts
            These counts, so that calls can be chained.

        Raises
        ------
        DataError
            If shapes differ.
        """
        shapes = {np.shape(a) for a in (truth, prediction, uncertainty, probability)}
        if len(shapes) != 1:
            raise DataError(f"Truth and prediction have the shapes {sorted(shapes)}, not one.")
        known = truth != IGNORE
        right = (truth == prediction)[known]
        step = np.rint(np.clip(uncertainty[known], 0, 1) * (_STEPS - 1)).astype(np.int64)
        self.ranked[:, 0] += np.bincount(step, minlength=_STEPS)
        self.ranked[:, 1] += np.bincount(step, weights=~right, minlength=_STEPS)
        p = np.clip(probability[known], 0, 1).astype(np.float64)
        column = np.minimum((p * _BINS).astype(np.int64), _BINS - 1)
        for i, weights in enumerate((None, right, p)):
            self.binned[:, i] += np.bincount(column, weights=weights, minlength=_BINS)
        return self


@dataclass(frozen=True)
class Reliability:
    """How far uncertainty and probabilities can be trusted, over all pixels of a set.

    Attributes
    ----------
    ranked, binned
        Sums of the images' `ReliabilityCounts`.
    temperature
        By which the model divides its logits.
    aurc_interval95, ece_interval95
        Bootstrap intervals over images; NaN where not known.
    """

    ranked: NDArray[np.float64]
    binned: NDArray[np.float64]
    temperature: float = 1.0
    aurc_interval95: tuple[float, float] = (math.nan, math.nan)
    ece_interval95: tuple[float, float] = (math.nan, math.nan)

    @classmethod
    def from_counts(
        cls,
        per_image: Sequence[ReliabilityCounts],
        *,
        temperature: float = 1.0,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Reliability:
        """Add up the images' counts; intervals come from resampling images.

        Raises
        ------
        DataError
            If there are no images.
        """
        if not per_image:
            raise DataError("There are no images to measure the uncertainty on.")
        ranked = np.stack([counts.ranked for counts in per_image])
        binned = np.stack([counts.binned for counts in per_image])
        n = len(per_image)
        draws = bootstrap if n > 1 else 0
        weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=draws)
        return cls(
            ranked.sum(0),
            binned.sum(0),
            temperature,
            interval(_aurc(np.einsum("ri,isc->rsc", weights, ranked))),
            interval(_ece(np.einsum("ri,isc->rsc", weights, binned))),
        )

    @property
    def error_rate(self) -> float:
        """Share of wrong pixels, which is the AURC of an order by chance."""
        pixels, errors = self.ranked.sum(0)
        return float(errors / pixels) if pixels else math.nan

    @property
    def aurc(self) -> float:
        """Area under the curve of risk against coverage; the smaller the better."""
        return float(_aurc(self.ranked[None])[0])

    @property
    def aurc_best(self) -> float:
        """The AURC if every error were more uncertain than any correct pixel."""
        e = self.error_rate
        return e if not 0 < e < 1 else e + (1 - e) * math.log1p(-e)

    @property
    def ece(self) -> float:
        """Expected calibration error of the predicted class's probability."""
        return float(_ece(self.binned[None])[0])

    def errors_found(self, share: float = 0.1) -> float:
        """Return the share of all errors among the most uncertain `share` of the pixels."""
        coverage, risk = self._cumulated()
        if not coverage[-1] or not risk[-1]:
            return math.nan
        kept = np.interp((1 - share) * coverage[-1], coverage, risk)
        return float(1 - kept / risk[-1])

    def curve(self, points: int = 51) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return coverage and risk at evenly spaced coverages up to 1, two arrays (points,)."""
        coverage, errors = self._cumulated()
        wanted = np.linspace(0, 1, points + 1)[1:]
        if not coverage[-1]:
            return wanted, np.full(points, np.nan)
        found = np.interp(wanted * coverage[-1], coverage, errors)
        return wanted, found / (wanted * coverage[-1])

    def calibration(self) -> NDArray[np.float64]:
        """Return (B, 3): mean probability, share correct and share of pixels, per bin in use."""
        used = self.binned[self.binned[:, 0] > 0]
        n = used[:, :1]
        return np.hstack([used[:, 2:] / n, used[:, 1:2] / n, n / n.sum()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; NaN stands for what is not defined."""
        coverage, risk = self.curve(20)
        return {
            "temperature": self.temperature,
            "aurc": self.aurc,
            "aurc_interval95": list(self.aurc_interval95),
            "aurc_chance": self.error_rate,
            "aurc_best": self.aurc_best,
            "errors_in_most_uncertain_tenth": self.errors_found(),
            "ece": self.ece,
            "ece_interval95": list(self.ece_interval95),
            "risk_coverage": {"coverage": coverage.tolist(), "risk": risk.tolist()},
            "calibration": [
                {"probability": p, "correct": c, "share": s}
                for p, c, s in self.calibration().tolist()
            ],
        }

    def _cumulated(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return pixels and errors up to each step, beginning with 0, two arrays (256,)."""
        sums = np.vstack([np.zeros(2), self.ranked.cumsum(0)])
        return sums[:, 0], sums[:, 1]


def _aurc(ranked: NDArray[Any]) -> NDArray[np.float64]:
    """Return the AURC (R,) of counts (R, 255, 2).

    Pixels of one step are in no order, so errors rise evenly within it: with c0 pixels and e0
    errors before it and m errors per pixel in it, the integral of (e0 + m (c - c0)) / c over the
    step is m (c1 - c0) + (e0 - m c0) ln(c1 / c0).
    """
    pixels, errors = ranked[..., 0], ranked[..., 1]
    c1, e1 = pixels.cumsum(-1), errors.cumsum(-1)
    c0, e0 = c1 - pixels, e1 - errors
    rate = np.divide(errors, pixels, out=np.zeros_like(errors, float), where=pixels > 0)
    ratio = np.divide(c1, c0, out=np.ones_like(c1, float), where=c0 > 0)
    area = rate * pixels + np.where(c0 > 0, (e0 - rate * c0) * np.log(ratio), 0)
    total = c1[..., -1]
    return np.divide(area.sum(-1), total, out=np.full(total.shape, np.nan), where=total > 0)


def _ece(binned: NDArray[Any]) -> NDArray[np.float64]:
    """Return the expected calibration error (R,) of counts (R, 15, 3)."""
    gaps = np.abs(binned[..., 1] - binned[..., 2]).sum(-1)
    total = binned[..., 0].sum(-1)
    return np.divide(gaps, total, out=np.full(total.shape, np.nan), where=total > 0)
