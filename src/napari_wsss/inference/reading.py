"""Blocks read ahead of the network, by threads, in parts that fit into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.inference.blocks import Block, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.gate import GateGrid
from napari_wsss.inference.reader_pool import ReaderPool
from napari_wsss.inference.tiles import Rect
from napari_wsss.jobs import CancelToken

__all__ = ["Loaded", "Loader", "Tile"]

#: Seconds between two looks at the cancel token while a block is being read.
_PATIENCE = 0.1


@dataclass(frozen=True)
class Tile:
    """A part of a block with the pixels that the network needs for it."""

    rect: Rect
    read: Rect
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Loaded:
    """A block that was read.

    Attributes
    ----------
    block
        Which.
    tiles
        Its parts; none if it has no tissue or could not be read.
    tissue
        (h, w) bool; None if it has none.
    side
        Largest side of its parts (px).
    unreadable
        Why it could not be read.
    """

    block: Block
    tiles: Sequence[Tile]
    tissue: NDArray[np.bool_] | None
    side: int
    unreadable: str | None = None


class Loader:
    """Reads blocks of one slide.

    Parameters
    ----------
    engine, plan, gate
        What decides on the pixels that a block needs.
    cancel
        Looked at while waiting for a reader, which may hang.

    Attributes
    ----------
    side
        Largest side of a part (px): that of a block, until memory runs out.
    """

    def __init__(
        self, engine: Engine, plan: SlidePlan, gate: GateGrid | None, cancel: CancelToken
    ):
        self.side = plan.side
        self._engine, self._plan, self._gate = engine, plan, gate
        self._cancel = cancel
        self._mark = engine.settings.unreadable == "mark"

    def ahead(self, blocks: Iterable[Block], pool: ReaderPool) -> Iterator[Loaded]:
        """Yield blocks in their order; threads of `pool` read a few ahead.

        Raises
        ------
        SlideError
            If one cannot be read and is not to be marked; CancelledError if a wish to cancel
            comes first.
        """
        most = self._engine.batch_size + self._engine.settings.readers
        waiting: deque[Future[Loaded]] = deque()
        for block in blocks:
            waiting.append(pool.submit(self.load, block))
            if len(waiting) > most:
                yield self._wait(waiting.popleft())
        while waiting:
            yield self._wait(waiting.popleft())

    def load(self, block: Block) -> Loaded:
        """Read a block in this thread; SlideError as in `ahead`."""
        if not block.tissue:
            return Loaded(block, (), None, self.side)
        side = self.side  # which another thread may change
        try:
            tiles = self.tiles(block.rect, side)
        except SlideError as error:
            if not self._mark:
                raise
            return Loaded(block, (), None, side, unreadable=str(error))
        return Loaded(block, tiles, self._plan.tissue_in(block.rect), side)

    def tiles(self, rect: Rect, side: int) -> list[Tile]:
        """Read what the network needs for a block, in parts of up to `side` px."""
        margin = 0 if self._gate is None else self._gate.margin_px(side)
        source = self._plan.source
        tiles = []
        for part in _parts(rect, side):
            read = self._engine.tiles.reads(source.shape, part, margin, side)
            tiles.append(Tile(part, read, source.read(*read)))
        return tiles

    def _wait(self, future: Future[Loaded]) -> Loaded:
        while True:
            self._cancel.raise_if_cancelled()
            try:
                return future.result(timeout=_PATIENCE)
            except StillRunning:
                if future.done():  # just now, or the reader itself ran into a timeout
                    return future.result()


def _parts(rect: Rect, side: int) -> Iterator[Rect]:
    for y in range(rect.y, rect.y + rect.height, side):
        for x in range(rect.x, rect.x + rect.width, side):
            height = min(side, rect.y + rect.height - y)
            yield Rect(y, x, height, min(side, rect.x + rect.width - x))
