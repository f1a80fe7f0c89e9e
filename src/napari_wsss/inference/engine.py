"""Running a network on any rectangle of an image, so that the tiling does not show.

Networks of limited sight get one tile with an exact halo, clipped to the image, so that the
result is that of one forward pass over the whole image (mirrored up to a multiple of the
network's stride). Others (global pooling, group
statistics) get fixed tiles on a global grid, blended with weights that are divided by
their own sum, so that a constant input gives a constant output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.errors import ModelError
from napari_wsss.inference.halo import receptive_halo
from napari_wsss.inference.source import Source
from napari_wsss.models import WsssModel
from napari_wsss.models.device import autocast, choose_device, prepare_process
from napari_wsss.settings import InferenceSettings

__all__ = ["Engine", "Region"]

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))


@dataclass(frozen=True)
class Region:
    """Network output for a rectangle of the image.

    Attributes
    ----------
    y, x
        First pixel; multiples of the model's alignment.
    logits
        (K, h, w) per pixel.
    presence
        (K, ph, pw) map of the gate, covering the same rectangle.
    """

    y: int
    x: int
    logits: Tensor
    presence: Tensor


class Engine:
    """A model ready to run on rectangles of images.

    Parameters
    ----------
    model
        Moved to the device and put in evaluation mode.
    settings
        Tile size, overlap, batch size and precision.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    flips
        Average over the four flips (test-time augmentation).
    """

    def __init__(
        self,
        model: WsssModel,
        settings: InferenceSettings | None = None,
        *,
        device: str = "auto",
        flips: bool = False,
    ):
        prepare_process()
        self.settings = settings or InferenceSettings()
        self.device = choose_device(device)
        self.halo = receptive_halo(model)
        self.step = model.alignment_px
        self.model = model.to(self.device).to(memory_format=torch.channels_last).eval()
        self.classes = model.classes
        self._flips = _FLIPS if flips else _FLIPS[:1]

    @property
    def exact(self) -> bool:
        """Whether results are those of the whole image, whatever the rectangles."""
        return self.halo is not None

    def aligned(self, start: int, count: int) -> tuple[int, int]:
        """Return the smallest aligned interval (start, count) that holds this one."""
        first = start // self.step * self.step
        return first, -(-(start + count - first) // self.step) * self.step

    @torch.inference_mode()
    def run(self, source: Source, y: int, x: int, height: int, width: int) -> Region:
        """Return the output for a rectangle of the image.

        The rectangle is widened to the network's alignment, and may end beyond the image by
        no more than that.

        Raises
        ------
        ModelError
            If the output is not a number somewhere.
        """
        y, height = self.aligned(y, height)
        x, width = self.aligned(x, width)
        if self.halo is None:
            logits, presence = self._blended(source, y, x, height, width)
        else:
            top, bottom = self._with_halo(y, height, source.shape[0])
            left, right = self._with_halo(x, width, source.shape[1])
            image = source.read(top, left, bottom - top, right - left)
            full, full_presence = self._forward(image[None])
            cut = (y - top, x - left, height, width)
            logits = _crop(full[0], cut, image.shape)
            presence = _crop(full_presence[0], cut, image.shape)
        if not all(bool(torch.isfinite(t).all()) for t in (logits, presence)):
            raise ModelError(
                f"The network gives no numbers (NaN or infinite) in the block at y={y}, x={x}, "
                f"{height} x {width} px. The model is damaged or was trained badly."
            )
        return Region(y, x, logits.cpu(), presence.cpu())

    def _with_halo(self, start: int, count: int, size: int) -> tuple[int, int]:
        """Return (first, end) of what a tile must read along one axis of an image."""
        assert self.halo is not None
        end = -(-size // self.step) * self.step
        return max(0, start - self.halo), min(end, start + count + self.halo)

    def _forward(self, images: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return (N, K, H, W) logits and the presence map of images (N, H, W, 3)."""
        batch = torch.from_numpy(np.require(images, requirements=("C", "W"))).to(self.device)
        batch = batch.permute(0, 3, 1, 2).float() / 255  # channels last in memory
        logits: Tensor | None = None
        presence: Tensor | None = None
        for axes in self._flips:
            with autocast(self.device, self.settings.precision):
                out = self.model.dense(batch.flip(axes) if axes else batch)
            one, two = out.logits.float(), out.presence.float()
            if axes:
                one, two = one.flip(axes), two.flip(axes)
            logits = one if logits is None else logits + one
            presence = two if presence is None else presence + two
        assert logits is not None
        assert presence is not None
        return logits / len(self._flips), presence / len(self._flips)

    # -- networks that see everything ---------------------------------------------------

    def _blended(
        self, source: Source, y: int, x: int, height: int, width: int
    ) -> tuple[Tensor, Tensor]:
        size = self.aligned(0, self.settings.tile_px)[1]
        apart = int(size * (1 - self.settings.tile_overlap))
        stride = max(self.step, apart // self.step * self.step)
        k = len(self.classes)
        sums = torch.zeros((k, height, width))
        weights = torch.zeros((height, width))
        small: Tensor | None = None
        small_weights: Tensor | None = None
        tiles = product(_starts(y, height, size, stride), _starts(x, width, size, stride))
        for group in batched(tiles, self.settings.batch_size):
            images = np.stack([source.read(ty, tx, size, size) for ty, tx in group])
            logits, presence = self._forward(images)
            # presence pixels per image pixel
            scale = presence.shape[-1] / size
            if small is None or small_weights is None:
                small = torch.zeros((k, round(height * scale), round(width * scale)))
                small_weights = torch.zeros(small.shape[1:])
            for (ty, tx), one, two in zip(group, logits.cpu(), presence.cpu(), strict=True):
                _add(sums, weights, one, ty - y, tx - x)
                _add(small, small_weights, two, round((ty - y) * scale), round((tx - x) * scale))
        assert small is not None
        assert small_weights is not None
        return sums / weights, small / small_weights


def _crop(output: Tensor, cut: tuple[int, int, int, int], size: tuple[int, ...]) -> Tensor:
    """Cut (y, x, height, width) of an image of `size` out of a map (K, h, w) of it."""
    y, x, height, width = cut
    sy, sx = output.shape[1] / size[0], output.shape[2] / size[1]
    top, left = round(y * sy), round(x * sx)
    return output[:, top : top + round(height * sy), left : left + round(width * sx)]


def _starts(start: int, count: int, size: int, stride: int) -> list[int]:
    """Return the global tile positions whose tile touches [start, start + count)."""
    first = (start - size) // stride + 1
    last = (start + count - 1) // stride
    return [i * stride for i in range(first, last + 1)]


def batched(tiles: Iterator[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    """Yield lists of up to `size` of the `tiles` (itertools has this from Python 3.12)."""
    while group := list(islice(tiles, size)):
        yield group


def _add(sums: Tensor, weights: Tensor, tile: Tensor, y: int, x: int) -> None:
    """Add a weighted tile (K, h, w) whose first pixel lies at (y, x) of the sums."""
    h, w = tile.shape[1:]
    window = _window(h)[:, None] * _window(w)[None, :]
    y0, y1 = max(y, 0), min(y + h, sums.shape[1])
    x0, x1 = max(x, 0), min(x + w, sums.shape[2])
    if y0 >= y1 or x0 >= x1:
        return
    part = window[y0 - y : y1 - y, x0 - x : x1 - x]
    sums[:, y0:y1, x0:x1] += tile[:, y0 - y : y1 - y, x0 - x : x1 - x] * part
    weights[y0:y1, x0:x1] += part


def _window(n: int) -> Tensor:
    """Return a triangle that is positive everywhere."""
    return 1 - (torch.arange(n) + 0.5 - n / 2).abs() / (n / 2 + 0.5)
