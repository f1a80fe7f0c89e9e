"""Blocks through the network: decoded ahead, computed, and written behind, by threads.

Three things happen at once: reader threads decode the blocks to come, the network runs, and
one thread writes what came out. Never more than a few blocks are in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.errors import SlideError, WsssError
from napari_wsss.inference.blocks import CHUNK_PX, Block, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.journal import Entry, digest
from napari_wsss.inference.live import LiveLevels
from napari_wsss.inference.outputs import Output
from napari_wsss.inference.predict import no_numbers
from napari_wsss.inference.reader_pool import ReaderPool
from napari_wsss.inference.reading import Loaded, Loader, Tile
from napari_wsss.inference.result import NOT_COMPUTED
from napari_wsss.inference.tiles import ExactTiles, Rect
from napari_wsss.jobs import CancelToken
from napari_wsss.models.device import is_out_of_memory
from napari_wsss.slides import Pyramid

__all__ = ["Pipeline"]

#: Blocks waiting to be written before the network waits for them.
_BEHIND = 3
#: Smallest side (px) to which a block is cut when memory runs out.
_SMALLEST = 64


@dataclass(frozen=True)
class _Computed:
    """A block whose result may still be on the device."""

    loaded: Loaded
    parts: Sequence[tuple[Rect, tuple[Tensor, ...]]]


class Pipeline:
    """Computes and stores blocks of one slide.

    Parameters
    ----------
    engine, plan, output
        The network, the slide, and what to store.
    pyramids
        Where to store it: the finest levels, and the coarser ones that a block fills by whole
        chunks. `filled` says how many; the rest is made from these.
    cancel
        Looked at between blocks, between layers, and while waiting for a reader.
    live
        Also keep the rest of the levels up to date, at most a twentieth of the time, for
        somebody who looks on.
    """

    def __init__(
        self,
        engine: Engine,
        plan: SlidePlan,
        output: Output,
        pyramids: Sequence[Pyramid],
        cancel: CancelToken | None = None,
        *,
        live: bool = False,
    ):
        self.engine = engine
        self.plan = plan
        self.output = output
        self.pyramids = pyramids
        self._cancel = cancel or CancelToken()
        self._gate = output.gate(engine.model.info.patch_size_px, plan)
        self._loader = Loader(engine, plan, self._gate, self._cancel)
        self.filled = [pyramid.filled_by(plan.side) for pyramid in pyramids]
        self._live = LiveLevels(pyramids, output, self.filled) if live else None

    def run(
        self, blocks: Iterable[Block], note: Callable[[Entry], object] | None = None
    ) -> Iterator[Entry]:
        """Yield the journal's entry of each block when it is stored.

        Parameters
        ----------
        blocks
            Drawn one by one, a few ahead of the network.
        note
            Called with each entry at once, in the thread that stored the block, so that however
            the run ends, no block is stored and not known of.

        Raises
        ------
        SlideError
            If the slide cannot be read and is not to be marked; a `CancelledError`,
            ModelError or OutputError likewise ends the run, after the entries of all that was
            stored.
        """

        def store(loaded: Loaded, arrays: Sequence[NDArray[np.uint8]]) -> Entry:
            entry = self._store(loaded, arrays)
            if note is not None:
                note(entry)
            return entry

        readers = ReaderPool(self.engine.settings.readers, "read")
        writer = ThreadPoolExecutor(1, "write")
        # On a GPU one batch is computed while the one before is fetched.
        ahead = 1 if self.engine.device.type == "cuda" else 0
        computed: deque[_Computed] = deque()
        stored: deque[Future[Entry]] = deque()
        try:
            for group in self._groups(self._loader.ahead(blocks, readers)):
                computed.extend(self._compute(group))
                while len(computed) > ahead * self.engine.batch_size:
                    stored.append(writer.submit(store, *self._fetch(computed.popleft())))
                while stored and (stored[0].done() or len(stored) > _BEHIND):
                    yield stored.popleft().result()
            while computed:
                stored.append(writer.submit(store, *self._fetch(computed.popleft())))
            while stored:
                yield stored.popleft().result()
        except Exception:  # of a reader, the network or the writer; raised again below
            writer.shutdown(wait=True, cancel_futures=True)
            yield from (f.result() for f in stored if not f.cancelled() and not f.exception())
            raise
        finally:
            readers.shutdown()  # one that hangs must not keep the run from ending
            writer.shutdown(wait=True, cancel_futures=True)

    def run_one(self, block: Block) -> Entry:
        """Compute and store one block in this thread."""
        loaded = self._loader.load(block)
        (computed,) = self._compute([loaded])
        return self._store(*self._fetch(computed))

    def look(self, block: Block, place: tuple[float, float]) -> Rect | None:
        """Compute and show one chunk of `block`, so that somebody who looks on sees it at once.

        It gets no entry: the block that it belongs to is computed and stored like any other.

        Parameters
        ----------
        block
            With tissue.
        place
            (y, x) in pixels of the result; the chunk of the block that is nearest.

        Returns
        -------
        Rect or None
            What was stored; None if nobody looks on, the block is no larger, or it cannot be
            read, which the run will find out.
        """
        rect = _chunk_at(block.rect, place)
        if self._live is None or rect == block.rect:
            return None
        tissue = self.plan.tissue_in(rect)
        side = max(rect.height, rect.width)
        try:
            tiles = self._loader.tiles(rect, side)
        except SlideError:
            return None
        (computed,) = self._compute([Loaded(Block(rect, True), tiles, tissue, side)])
        if not computed.parts:
            return None
        _, arrays = self._fetch(computed)
        stored, _ = self.output.masked(arrays, tissue)
        for pyramid, array in zip(self.pyramids, stored, strict=True):
            pyramid.write(rect.y, rect.x, array)
        self._live.recall(rect)
        return rect

    def _groups(self, loads: Iterator[Loaded]) -> Iterator[list[Loaded]]:
        """Yield batches of blocks with tissue; others pass through as they come."""
        group: list[Loaded] = []
        for loaded in loads:
            if not loaded.tiles:
                yield [loaded]
                continue
            group.append(loaded)
            if len(group) >= self.engine.batch_size:
                yield group
                group = []
        if group:
            yield group

    # -- computing ----------------------------------------------------------------------

    def _compute(self, group: Sequence[Loaded]) -> list[_Computed]:
        self._cancel.raise_if_cancelled()
        # Some were read ahead in parts that are known by now not to fit.
        fits = self._loader.side
        group = [
            self._loader.load(one.block) if one.tiles and one.side > fits else one for one in group
        ]
        tiles = [tile for loaded in group for tile in loaded.tiles]
        results: list[tuple[Tensor, ...]] | None = []
        while True:
            try:
                results = self._tensors(tiles)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                results = None
            # Outside the handler, so that the frames of the failed pass are gone.
            if self.engine.batch_size > 1:
                self.engine.batch_size = -(-self.engine.batch_size // 2)
                _release(self.engine.device)
                continue
            return self._compute_smaller(group)
        found = iter(zip(tiles, results, strict=True))
        return [
            _Computed(loaded, [(t.rect, r) for t, r in (next(found) for _ in loaded.tiles)])
            for loaded in group
        ]

    def _compute_smaller(self, group: Sequence[Loaded]) -> list[_Computed]:
        """Cut the blocks into smaller parts, as their whole does not fit into memory."""
        smaller = max(one.side for one in group) // 2
        if smaller < _SMALLEST or not isinstance(self.engine.tiles, ExactTiles):
            raise WsssError(
                f"The memory of {self.engine.device} does not suffice for one tile. Close other "
                "programs, or take a smaller network. What was finished is kept."
            )
        self._loader.side = smaller
        _release(self.engine.device)
        return [c for one in group for c in self._compute([one])]

    def _tensors(self, tiles: Sequence[Tile]) -> list[tuple[Tensor, ...]]:
        results = []
        size = self.engine.batch_size
        for start in range(0, len(tiles), size):
            some = tiles[start : start + size]
            regions = self.engine.run(
                [t.image for t in some], [t.read for t in some], [t.rect for t in some]
            )
            with torch.inference_mode():
                for tile, region in zip(some, regions, strict=True):
                    results.append(self.output.tensors(region, tile.rect, self._gate))
        return results

    # -- storing ------------------------------------------------------------------------

    def _fetch(self, computed: _Computed) -> tuple[Loaded, list[NDArray[np.uint8]]]:
        """Bring the result of a block from the device, in one piece."""
        loaded, (y0, x0, height, width) = computed.loaded, computed.loaded.block.rect
        if not computed.parts:
            return loaded, []
        whole: list[NDArray[np.uint8]] = []
        for rect, tensors in computed.parts:
            *values, check = (t.cpu() for t in tensors)
            if not bool(torch.isfinite(check)):
                raise no_numbers(loaded.block.rect)
            arrays = [v.numpy() for v in values]
            if len(computed.parts) == 1:
                return loaded, arrays
            whole = whole or [np.empty((*a.shape[:-2], height, width), a.dtype) for a in arrays]
            y, x = rect.y - y0, rect.x - x0
            for target, array in zip(whole, arrays, strict=True):
                target[..., y : y + rect.height, x : x + rect.width] = array
        return loaded, whole

    def _store(self, loaded: Loaded, arrays: Sequence[NDArray[np.uint8]]) -> Entry:
        rect = loaded.block.rect
        stats: list[float]
        if loaded.unreadable is not None:
            arrays, stats = self.output.blank(rect, NOT_COMPUTED), []
        elif loaded.tissue is None:
            arrays = self.output.blank(rect, 0)
            _, stats = self.output.masked(arrays, np.zeros((rect.height, rect.width), bool))
        else:
            arrays, stats = self.output.masked(arrays, loaded.tissue)
        for pyramid, array, filled, method in zip(
            self.pyramids, arrays, self.filled, self.output.methods, strict=True
        ):
            pyramid.write_levels(rect.y, rect.x, array, filled, method, (NOT_COMPUTED,))
        if self._live is not None:
            self._live.wrote(rect)
        return Entry(rect, stats, digest(arrays), loaded.unreadable)

    def recall(self, rect: Rect) -> None:
        """Bring all coarser levels up to date under a block of an earlier run.

        Only if somebody looks on: they are made anew at the end.
        """
        if self._live is not None:
            self._live.recall(rect)

    def is_intact(self, entry: Entry) -> bool:
        """Whether the stored pixels of a block are those that its entry was made for."""
        y, x, height, width = entry.rect
        try:
            arrays = [
                np.asarray(p.levels[0][..., y : y + height, x : x + width]) for p in self.pyramids
            ]
        except (OSError, ValueError, RuntimeError):  # a torn chunk fails its checksum
            return False
        return digest(arrays) == entry.digest


def _chunk_at(rect: Rect, place: tuple[float, float]) -> Rect:
    """Return the chunk of a block that is nearest to a place."""
    y, x = (
        min(max(int(at) // CHUNK_PX * CHUNK_PX, start), start + (count - 1) // CHUNK_PX * CHUNK_PX)
        for at, start, count in zip(place, rect[:2], rect[2:], strict=True)
    )
    height, width = rect.y + rect.height - y, rect.x + rect.width - x
    return Rect(y, x, min(CHUNK_PX, height), min(CHUNK_PX, width))


def _release(device: torch.device) -> Any:
    if device.type == "cuda":
        torch.cuda.empty_cache()
