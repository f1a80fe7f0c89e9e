"""A stored pyramid: writing its finest level and making the coarser ones from it."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from napari_wsss.errors import OutputError
from napari_wsss.slides.downsample import Method, halve

__all__ = ["Pyramid", "location", "writing"]

#: Threads that make coarser levels; most of their time they pack, unpack, read and write.
_BUILDERS = 4


def location(group: zarr.Group) -> str:
    """Return the path of a zarr group, or its address if it is not on disk."""
    root = getattr(group.store_path.store, "root", None)
    return str(group.store_path) if root is None else str(Path(root) / group.path)


@contextmanager
def writing(where: str | Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn errors of the operating system into OutputError naming `where`.

    Parameters
    ----------
    where
        What is written.
    needed_bytes
        What it takes at most, uncompressed; stated if the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = "" if needed_bytes is None else f" It needs up to {needed_bytes:,} bytes."
            message = f"The disk of {where} is full.{size} Free some space and start again."
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            message = f"{where} cannot be written: {error}. Choose a folder that you may write to."
        else:
            message = f"{where} cannot be written: {error}."
        raise OutputError(message) from error


class Pyramid:
    """Levels of an OME-Zarr image, finest first, each half as large as the one before.

    Parameters
    ----------
    group
        The zarr group of the image.
    levels
        Its arrays, (y, x) or (c, y, x).

    Notes
    -----
    Blocks that begin and end on chunk borders can be written from several threads or
    processes at once; others must not share a chunk. `update` may be called from several
    threads of one process.
    """

    def __init__(self, group: zarr.Group, levels: Sequence[zarr.Array]) -> None:
        self.group = group
        self.levels = list(levels)
        self._lock = threading.Lock()
        root = getattr(group.store_path.store, "root", None)
        self._described = None
        if root is not None and group.metadata.zarr_format == 3:
            self._described = Path(root) / group.path / "zarr.json"

    @property
    def where(self) -> str:
        """Path of the image, for messages."""
        return location(self.group)

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the finest level."""
        height, width = self.levels[0].shape[-2:]
        return int(height), int(width)

    @property
    def chunk(self) -> int:
        """Side of a chunk in px."""
        return int(self.levels[0].chunks[-1])

    def write(self, y: int, x: int, block: NDArray[Any]) -> None:
        """Write `block` into the finest level with its first pixel at (`y`, `x`).

        Parameters
        ----------
        y, x
            In pixels.
        block
            (h, w), or (c, h, w) for an image with channels.

        Raises
        ------
        OutputError
            If it does not fit, or cannot be written (disk full, no permission).
        """
        level = self.levels[0]
        height, width = block.shape[-2:]
        fits = 0 <= y <= y + height <= level.shape[-2] and 0 <= x <= x + width <= level.shape[-1]
        if not fits or block.shape[:-2] != level.shape[:-2]:
            raise OutputError(
                f"A block of {block.shape} at ({y}, {x}) does not fit {self.where}, whose finest "
                f"level is {level.shape}."
            )
        self._put(0, y, x, block)

    def filled_by(self, side: int) -> int:
        """Return how many coarser levels blocks of `side` px fill by whole chunks."""
        count = 0
        while (
            count + 1 < len(self.levels)
            and side % 2 ** (count + 1) == 0
            and (side >> (count + 1)) % self.chunk == 0
        ):
            count += 1
        return count

    def write_levels(
        self,
        y: int,
        x: int,
        block: NDArray[Any],
        count: int,
        method: Method = "mean",
        ignore: Sequence[int | float] = (),
    ) -> None:
        """Write `block` into the finest level and into the next `count`, without reading.

        Parameters
        ----------
        y, x, block
            As in `write`; of a grid of blocks whose side fills `count` levels.
        count
            At most what `filled_by` says of that side.
        method, ignore
            As in `build`, to which the result is equal.

        Raises
        ------
        OutputError
            As for `write`.
        """
        self.write(y, x, block)
        for level in range(1, count + 1):
            block = halve(block, method, ignore)
            y, x = y // 2, x // 2
            self._put(level, y, x, block)

    def build(self, method: Method = "mean", ignore: Sequence[int | float] = ()) -> None:
        """Make every coarser level from the one below it, chunk by chunk.

        Parameters
        ----------
        method, ignore
            As in `napari_wsss.slides.downsample.halve`.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        for _ in self.build_steps(method, ignore):
            pass

    def build_steps(
        self, method: Method = "mean", ignore: Sequence[int | float] = (), first: int = 1
    ) -> Iterator[tuple[int, int]]:
        """Do what `build` does, yielding (chunks done, chunks in all) after each.

        Levels before `first` are there already.
        """
        levels = [
            [
                (level, y, x)
                for y in range(0, self.levels[level].shape[-2], self.chunk)
                for x in range(0, self.levels[level].shape[-1], self.chunk)
            ]
            for level in range(first, len(self.levels))
        ]
        done, total = 0, sum(map(len, levels))
        with ThreadPoolExecutor(_BUILDERS, "pyramid") as pool:
            for chunks in levels:  # each from the one before, which has to be there
                building = deque(
                    pool.submit(
                        self._reduce, level, y, x, y + self.chunk, x + self.chunk, method, ignore
                    )
                    for level, y, x in chunks
                )
                try:
                    while building:
                        building.popleft().result()
                        done += 1
                        yield done, total
                finally:  # nobody wants the rest any more
                    for future in building:
                        future.cancel()

    def update(
        self,
        y: int,
        x: int,
        height: int,
        width: int,
        method: Method = "mean",
        ignore: Sequence[int | float] = (),
        first: int = 1,
    ) -> None:
        """Make the chunks of the coarser levels anew that cover a region of the finest.

        Parameters
        ----------
        y, x, height, width
            The region in pixels of the finest level.
        method, ignore
            As in `build`.
        first
            The levels before it are right already.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        side = self.chunk
        y0, x0 = max(y, 0), max(x, 0)
        y1, x1 = min(y + height, self.shape[0]), min(x + width, self.shape[1])
        if y0 >= y1 or x0 >= x1:
            return
        for level in range(1, len(self.levels)):
            y0, x0, y1, x1 = y0 // 2, x0 // 2, -(-y1 // 2), -(-x1 // 2)
            if level < first:
                continue
            for top in range(y0 // side * side, y1, side):
                for left in range(x0 // side * side, x1, side):
                    # Whole chunks under a lock: the last of two neighbours that share a
                    # chunk sees both, and no chunk is ever read to be patched.
                    with self._lock:
                        self._reduce(level, top, left, top + side, left + side, method, ignore)

    def _reduce(
        self,
        level: int,
        y0: int,
        x0: int,
        y1: int,
        x1: int,
        method: Method,
        ignore: Sequence[int | float],
    ) -> None:
        finer = self.levels[level - 1]
        source = np.asarray(finer[..., 2 * y0 : 2 * y1, 2 * x0 : 2 * x1])
        self._put(level, y0, x0, halve(source, method, ignore))

    def _put(self, level: int, y: int, x: int, block: NDArray[Any]) -> None:
        # zarr would make folders anew, and in them chunks that nothing describes.
        if self._described is not None and not self._described.is_file():
            raise OutputError(f"{self.where} was deleted or moved while it was being written.")
        height, width = block.shape[-2:]
        with writing(self.where, sum(int(a.nbytes) for a in self.levels)):
            self.levels[level][..., y : y + height, x : x + width] = block
