"""A slide on the pixel grid of another resolution, the same whichever way it is tiled."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.pixels import WHITE
from napari_wsss.slides.resolution import validated_mpp
from napari_wsss.slides.slide import Slide

__all__ = ["ResampledSlide"]

#: A level whose factor is within this of the wanted one is used as it is.
_TOLERANCE = 0.01
#: What the weights of a pixel add up to: 255 times it is exact in float32.
_UNIT = 2.0**15
#: Output rows of one matrix product.
_STRIP = 32
#: Source pixels read at once; larger requests are split.
_MAX_SOURCE_PX = 2**24


class ResampledSlide:
    """`slide` resampled to `mpp` µm/px.

    The coarsest level that is fine enough is reduced by a separable triangle filter, as wide
    as the reduction asks for, so that nothing aliases. Filter weights depend on the position
    on the slide alone: any way to cut the slide into reads gives the same bytes. If a level
    is within 1 % of the wanted resolution, its pixels are used untouched and `mpp`,
    `downsample` and `shape` are that level's.

    Parameters
    ----------
    slide
        The slide.
    mpp
        µm/px wanted; None keeps level 0 as it is.

    Attributes
    ----------
    shape
        (H, W) of the resampled slide.
    mpp
        µm/px of its pixels; None if the slide's is unknown.
    downsample
        Level-0 pixels per output pixel, (dy, dx).
    level
        The level that is read.

    Raises
    ------
    MissingResolutionError
        If `mpp` is given and that of the slide is unknown.
    """

    def __init__(self, slide: Slide, mpp: float | None) -> None:
        factor = 1.0 if mpp is None else validated_mpp(mpp) / slide.require_mpp()
        self._setup(slide, factor)

    @classmethod
    def at_downsample(cls, slide: Slide, downsample: float) -> ResampledSlide:
        """Resample to pixels of `downsample` level-0 pixels; needs no resolution.

        Raises
        ------
        SlideError
            If `downsample` is not a positive number.
        """
        if not (math.isfinite(downsample) and downsample > 0):
            raise SlideError(f"A downsample factor must be positive, not {downsample!r}.")
        self = cls.__new__(cls)
        self._setup(slide, float(downsample))
        return self

    def _setup(self, slide: Slide, factor: float) -> None:
        self.slide = slide
        fine_enough = [
            i for i, d in enumerate(slide.downsamples) if max(d) <= factor * (1 + _TOLERANCE)
        ]
        self.level = fine_enough[-1] if fine_enough else 0
        own = slide.downsamples[self.level]
        height, width, _ = slide.levels[self.level].shape
        self._source_shape = (height, width)
        self.shape: tuple[int, int]
        self._identity = max(abs(factor / d - 1) for d in own) <= _TOLERANCE
        if self._identity:
            self.downsample, self.shape = own, (height, width)
        else:
            self.downsample = (factor, factor)
            # The slack keeps ceil from adding a row for a rounding error in the factor.
            rows, columns = (max(1, math.ceil(n / factor - 1e-6)) for n in slide.shape)
            self.shape = (rows, columns)
        #: Source pixels per output pixel.
        self._steps = (self.downsample[0] / own[0], self.downsample[1] / own[1])
        mean = (self.downsample[0] + self.downsample[1]) / 2
        self.mpp = None if slide.mpp is None else slide.mpp * mean

    def read(self, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Read a rectangle of the resampled slide; safe to call from many threads.

        Parameters
        ----------
        y, x
            First row and column in pixels of the resampled slide; may lie outside.
        height, width
            Size in the same pixels.

        Returns
        -------
        NDArray
            (height, width, 3) uint8, white outside the slide.

        Raises
        ------
        SlideError
            If the slide cannot be read there.
        """
        if self._identity:
            return self.slide.read_region(self.level, y, x, height, width)
        out = np.full((height, width, 3), WHITE, np.uint8)
        y0, y1 = max(y, 0), min(y + height, self.shape[0])
        x0, x1 = max(x, 0), min(x + width, self.shape[1])
        if y0 < y1 and x0 < x1:
            self._fill(out[y0 - y : y1 - y, x0 - x : x1 - x], y0, x0)
        return out

    def _fill(self, out: NDArray[np.uint8], y: int, x: int) -> None:
        height, width, _ = out.shape
        if self._steps[0] * height * self._steps[1] * width > _MAX_SOURCE_PX and out.size > 3:
            if height >= width:
                self._fill(out[: height // 2], y, x)
                self._fill(out[height // 2 :], y + height // 2, x)
            else:
                self._fill(out[:, : width // 2], y, x)
                self._fill(out[:, width // 2 :], y, x + width // 2)
            return
        rows = _Taps(y, height, self._steps[0], self._source_shape[0])
        columns = _Taps(x, width, self._steps[1], self._source_shape[1])
        source = self.slide.read_region(
            self.level, rows.first, columns.first, rows.span, columns.span
        )
        lines = rows.reduce(source.reshape(rows.span, -1)).reshape(height, columns.span, 3)
        turned = np.ascontiguousarray(lines.swapaxes(0, 1)).reshape(columns.span, -1)
        out[...] = columns.reduce(turned).reshape(width, height, 3).swapaxes(0, 1)


class _Taps:
    """The filter of `count` output rows (or columns) from `start` on.

    Output pixel ``i`` is centred at ``(i + 0.5) * step - 0.5`` on the source; taps beyond
    the border repeat the border pixel. Weights come from `i` and `step` in float64 and are
    rounded to whole numbers that add up to `_UNIT`, so that all sums are exact in float32:
    a row is the same in every tile, in whichever order a matrix product adds.

    Attributes
    ----------
    first, span
        First source row needed, and how many.
    """

    def __init__(self, start: int, count: int, step: float, size: int) -> None:
        support = max(1.0, step)
        centers = (np.arange(start, start + count, dtype=np.float64) + 0.5) * step - 0.5
        first = np.floor(centers - support).astype(np.int64) + 1
        taps = first[:, None] + np.arange(math.ceil(2 * support) + 1)
        weights = np.maximum(0.0, 1.0 - np.abs(taps - centers[:, None]) / support)
        whole = np.rint(weights * (_UNIT / weights.sum(axis=1, keepdims=True)))
        rows = np.arange(count)
        whole[rows, weights.argmax(axis=1)] += _UNIT - whole.sum(axis=1)
        used = np.clip(taps, 0, size - 1)
        self.first, last = int(used[:, 0].min()), int(used[:, -1].max())
        self.span = last - self.first + 1
        self._used, self._weights = used - self.first, whole.astype(np.float32)

    def reduce(self, source: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn (span, n) into (count, n).

        By dense products of a few rows each: they do more than the few taps ask for, and are
        three times as fast as sparse ones.
        """
        count = len(self._used)
        out = np.empty((count, source.shape[1]), np.uint8)
        for start in range(0, count, _STRIP):
            used = self._used[start : start + _STRIP]
            low, high = int(used.min()), int(used.max()) + 1
            band = np.zeros((len(used), high - low), np.float32)
            rows = np.repeat(np.arange(len(used)), used.shape[1])
            np.add.at(
                band,
                (rows, used.reshape(-1) - low),
                self._weights[start : start + _STRIP].reshape(-1),
            )
            sums = band @ source[low:high].astype(np.float32)
            sums += _UNIT / 2
            sums *= 1 / _UNIT
            out[start : start + _STRIP] = sums  # cut off, so rounded
        return out
