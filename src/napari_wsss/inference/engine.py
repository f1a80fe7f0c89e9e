"""Running a network on any rectangle of an image, so that the tiling does not show.

Networks of limited sight get one tile with an exact halo, so that the result is that of one
forward pass over the whole image (mirrored up to a multiple of the network's stride). Others
(global pooling, group statistics) get fixed tiles on a global grid, blended with weights that
are divided by their own sum, so that a constant input gives a constant output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.allocator import keep_heap
from napari_wsss.inference.halo import receptive_halo
from napari_wsss.inference.region import Region
from napari_wsss.inference.tiles import BlendedTiles, ExactTiles, Rect
from napari_wsss.inference.upload import Uploader
from napari_wsss.jobs import CancelToken
from napari_wsss.models import WsssModel
from napari_wsss.models.acceleration import accelerated
from napari_wsss.models.base import ReducedOutput, Window
from napari_wsss.models.device import autocast, choose_device
from napari_wsss.models.interrupt import interruptible
from napari_wsss.settings import InferenceSettings

__all__ = ["Engine"]

_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-1, -2))
#: Blocks per forward pass where the settings leave it open. A CPU is busy with one.
_BATCH = {"cpu": 1, "mps": 2, "cuda": 2}


class Engine:
    """A model ready to run on rectangles of images.

    Parameters
    ----------
    model
        A copy of it runs, its batch norms folded into its convolutions.
    settings
        Tile size, overlap, batch size and precision.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    flips
        Average over the four flips (test-time augmentation).
    cancel
        Looked at before every layer, so that a pass over a large tile ends at once.

    Attributes
    ----------
    tiles
        What must be read for a rectangle.
    batch_size
        Tiles per forward pass.
    """

    def __init__(
        self,
        model: WsssModel,
        settings: InferenceSettings | None = None,
        *,
        device: str = "auto",
        flips: bool = False,
        cancel: CancelToken | None = None,
    ):
        keep_heap()
        self.settings = settings or InferenceSettings()
        self.device = choose_device(device)
        self.halo = receptive_halo(model)
        self.step = model.alignment_px
        self._cancel = cancel or CancelToken()
        quick = accelerated(model, self.device, self.settings.precision)
        self.model = interruptible(quick, self._cancel.raise_if_cancelled)
        self.classes = model.classes
        self.temperature = model.info.temperature
        wanted = self.settings.batch_size
        self.batch_size = _BATCH.get(self.device.type, 1) if wanted == "auto" else wanted
        self.tiles: ExactTiles | BlendedTiles
        if self.halo is not None:
            alike = self.batch_size > 1
            self.tiles = ExactTiles(self.step, self.halo.logits, self.halo.presence, alike)
        else:
            self.tiles = self._blended_tiles()
        self._flips = _FLIPS if flips else _FLIPS[:1]
        self._upload = Uploader(self.device)

    @property
    def exact(self) -> bool:
        """Whether results are those of the whole image, whatever the rectangles."""
        return isinstance(self.tiles, ExactTiles)

    def _blended_tiles(self) -> BlendedTiles:
        size = -(-self.settings.tile_px // self.step) * self.step
        apart = int(size * (1 - self.settings.tile_overlap))
        return BlendedTiles(size, max(self.step, apart // self.step * self.step))

    @torch.inference_mode()
    def run(
        self,
        images: Sequence[NDArray[np.uint8]],
        rects: Sequence[Rect],
        wanted: Sequence[Rect] | None = None,
    ) -> list[Region]:
        """Return the output for tiles of one shape, without waiting for the device.

        Parameters
        ----------
        images
            Each (h, w, 3): the pixels of a rectangle.
        rects
            Where they lie, as `tiles` said.
        wanted
            The part of each whose logits will be asked for; all by default.

        Raises
        ------
        CancelledError
            Between two layers.
        """
        if isinstance(self.tiles, ExactTiles):
            out = self._forward(images, None if wanted is None else _union(rects, wanted))
            return [
                Region(rect, logits, presence, out.origin, out.size, self.temperature)
                for rect, logits, presence in zip(rects, out.logits, out.presence, strict=True)
            ]
        return [
            self._blended(image, rect, self.tiles)
            for image, rect in zip(images, rects, strict=True)
        ]

    def _forward(
        self, images: Sequence[NDArray[np.uint8]], keep: Window | None = None
    ) -> ReducedOutput:
        """Return the network's output for N images (H, W, 3)."""
        batch = self._upload(images)
        if self.model.encoder.normalises:  # in one pass
            batch = torch.div(batch, 255)
        batch = batch.permute(0, 3, 1, 2)  # channels last in memory
        found = []
        for axes in self._flips:
            with autocast(self.device, self.settings.precision):
                if not axes:
                    out = self.model.reduced(batch, keep if len(self._flips) == 1 else None)
                else:
                    out = self.model.reduced(batch.flip(axes))
            logits, presence = out.logits.float(), out.presence.float()
            if axes:
                logits, presence = logits.flip(axes), presence.flip(axes)
            # Channels apart in memory, as what follows goes over them one by one.
            found.append(out._replace(logits=logits.contiguous(), presence=presence))
        if len(found) == 1:
            return found[0]
        return found[0]._replace(
            logits=torch.stack([one.logits for one in found]).mean(0),
            presence=torch.stack([one.presence for one in found]).mean(0),
        )

    # -- networks that see everything ---------------------------------------------------

    def _blended(self, image: NDArray[np.uint8], rect: Rect, tiles: BlendedTiles) -> Region:
        k, size = len(self.classes), tiles.size
        sums = torch.zeros((k, rect.height, rect.width), device=self.device)
        weights = torch.zeros(sums.shape[1:], device=self.device)
        small: Tensor | None = None
        small_weights: Tensor | None = None
        corners = [(y, x) for y in tiles.starts(rect.height) for x in tiles.starts(rect.width)]
        for begin in range(0, len(corners), self.batch_size):
            group = corners[begin : begin + self.batch_size]
            out = self._forward([image[y : y + size, x : x + size] for y, x in group])
            presence = out.presence
            logits = F.interpolate(out.logits, (size, size), mode="bilinear", align_corners=False)
            scale = presence.shape[-1] / size  # presence pixels per image pixel
            if small is None or small_weights is None:
                rows, columns = round(rect.height * scale), round(rect.width * scale)
                small = torch.zeros((k, rows, columns), device=self.device)
                small_weights = torch.zeros((rows, columns), device=self.device)
            for (y, x), one, two in zip(group, logits, presence, strict=True):
                _add(sums, weights, one, y, x)
                _add(small, small_weights, two, round(y * scale), round(x * scale))
        assert small is not None
        assert small_weights is not None
        means = sums / weights, small / small_weights
        return Region(rect, *means, temperature=self.temperature)


def _union(rects: Sequence[Rect], wanted: Sequence[Rect]) -> Window:
    """Return the part of tiles of one shape that covers what is wanted of each."""
    pairs = list(zip(rects, wanted, strict=True))
    top = min(w.y - r.y for r, w in pairs)
    left = min(w.x - r.x for r, w in pairs)
    bottom = max(w.y - r.y + w.height for r, w in pairs)
    right = max(w.x - r.x + w.width for r, w in pairs)
    return Window(top, left, bottom - top, right - left)


def _add(sums: Tensor, weights: Tensor, tile: Tensor, y: int, x: int) -> None:
    """Add a weighted tile (K, h, w) whose first pixel lies at (y, x) of the sums."""
    h, w = tile.shape[1:]
    h, w = min(h, sums.shape[1] - y), min(w, sums.shape[2] - x)
    window = (_window(tile.shape[1])[:h, None] * _window(tile.shape[2])[None, :w]).to(tile.device)
    sums[:, y : y + h, x : x + w] += tile[:, :h, :w] * window
    weights[y : y + h, x : x + w] += window


def _window(n: int) -> Tensor:
    """Return a triangle that is positive everywhere."""
    return 1 - (torch.arange(n) + 0.5 - n / 2).abs() / (n / 2 + 0.5)
