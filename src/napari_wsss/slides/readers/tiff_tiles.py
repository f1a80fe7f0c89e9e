"""Decoding the tiles (or strips) of one TIFF page, thread-safe and within memory limits."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.pixels import WHITE
from napari_wsss.slides.readers.base import FOREIGN_ERRORS, read_error

__all__ = ["PageTiles", "TileCache", "TileFile"]

#: Largest decoded tile or strip, in bytes.
MAX_TILE_BYTES = 2**29
_JPEG, _JPEG2000 = (6, 7, 34892, 33007), (33003, 33004, 33005, 34712)
_ERRORS = (tifffile.TiffFileError, *FOREIGN_ERRORS)


class TileFile:
    """Positional reads of a file from any thread."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes at `offset`; OSError if there are fewer."""
        if self._file.closed:
            raise OSError("the slide was closed")
        if hasattr(os, "pread"):
            data = os.pread(self._file.fileno(), size, offset)
        else:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(size)
        if len(data) != size:
            raise OSError(f"{size - len(data)} of {size} bytes at offset {offset} are missing")
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TileCache:
    """The tiles decoded last, up to `limit` bytes: neighbouring regions share tiles."""

    def __init__(self, limit: int = 2**26) -> None:
        self._limit = limit
        self._tiles: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[int, int]) -> NDArray[np.uint8] | None:
        """Return the tile called `key` if it is kept."""
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
            return self._tiles.get(key)

    def put(self, key: tuple[int, int], tile: NDArray[np.uint8]) -> None:
        """Keep `tile`, dropping those unused longest."""
        with self._lock:
            if key in self._tiles:
                return
            self._tiles[key] = tile
            self._bytes += tile.nbytes
            while self._bytes > self._limit and len(self._tiles) > 1:
                self._bytes -= self._tiles.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Drop all tiles."""
        with self._lock:
            self._tiles.clear()
            self._bytes = 0


class PageTiles:
    """The segments (tiles or strips) of one page as a grid.

    Parameters
    ----------
    page
        A `tifffile.TiffPage`; the file it came from may be closed.
    file, cache
        Shared by the pages of a file.
    where
        Path, for messages.
    """

    def __init__(self, page: Any, file: TileFile, cache: TileCache, where: str) -> None:
        self.shape = (int(page.imagelength), int(page.imagewidth))
        if page.is_tiled:
            self.tile = (int(page.tilelength), int(page.tilewidth))
        else:
            self.tile = (min(int(page.rowsperstrip), self.shape[0]), self.shape[1])
        samples = int(page.samplesperpixel)
        self._separate = int(page.planarconfig) == 2 and samples > 1
        self._samples = samples
        self._grid = tuple(-(-n // t) for n, t in zip(self.shape, self.tile, strict=True))
        self._page, self._file, self._cache, self._where = page, file, cache, where
        self._offsets = np.asarray(page.dataoffsets, np.uint64)
        self._counts = np.asarray(page.databytecounts, np.uint64)
        self._check()
        # Made once here: tifffile builds it on first use, and threads would race for it.
        self._decode = page.decode
        self._arguments: dict[str, Any] = {}
        if int(page.compression) in _JPEG:
            self._arguments = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}

    def _check(self) -> None:
        size = self.tile[0] * self.tile[1] * (1 if self._separate else self._samples)
        if min(self.tile) < 1 or size > MAX_TILE_BYTES:
            raise SlideError(
                f"{self._where} is stored in pieces of {self.tile[0]} x {self.tile[1]} px, too "
                "large to decode one at a time. Save it as a tiled TIFF, for example with "
                "256 px tiles."
            )
        needed = self._grid[0] * self._grid[1] * (self._samples if self._separate else 1)
        if len(self._offsets) < needed:
            raise SlideError(
                f"{self._where} is damaged: its directory lists {len(self._offsets)} of {needed} "
                "tiles. Copy it again from its source."
            )

    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return (height, width, samples); `level` is for messages."""
        out = np.empty((height, width, self._samples), np.uint8)
        th, tw = self.tile
        planes = range(self._samples) if self._separate else range(1)
        for plane in planes:
            part = out[..., plane : plane + 1] if self._separate else out
            for row in range(y // th, -(-(y + height) // th)):
                for column in range(x // tw, -(-(x + width) // tw)):
                    index = (plane * self._grid[0] + row) * self._grid[1] + column
                    top, left = row * th, column * tw
                    y0, y1 = max(y, top), min(y + height, top + th)
                    x0, x1 = max(x, left), min(x + width, left + tw)
                    to = part[y0 - y : y1 - y, x0 - x : x1 - x]
                    tile = self._tile(index, level, top, left)
                    if tile is None:
                        to[...] = WHITE
                    else:
                        to[...] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return out

    def _tile(self, index: int, level: int, top: int, left: int) -> NDArray[np.uint8] | None:
        """Return the decoded tile, None if the scanner stored none."""
        key = (id(self), index)
        tile = self._cache.get(key)
        if tile is not None:
            return tile
        offset, size = int(self._offsets[index]), int(self._counts[index])
        if size == 0:
            return None
        try:
            data = self._file.read(offset, size)
            _check_declared(data, int(self._page.compression), self.tile)
            decoded, _, _ = self._decode(data, index, **self._arguments)
            tile = np.asarray(decoded)[0]
        except _ERRORS as error:
            raise read_error(error, self._where, level, top, left) from error
        height = min(self.tile[0], self.shape[0] - top)
        width = min(self.tile[1], self.shape[1] - left)
        if tile.dtype != np.uint8 or tile.shape[0] < height or tile.shape[1] < width:
            reason = f"a tile decodes to {tile.shape} {tile.dtype}"
            raise read_error(reason, self._where, level, top, left)
        self._cache.put(key, tile)
        return tile


def _check_declared(data: bytes, compression: int, tile: tuple[int, int]) -> None:
    """Raise ValueError if a JPEG or JPEG 2000 stream says that it is far larger than its tile.

    Their decoders allocate what the stream asks for, so a few bytes could ask for gigabytes.
    """
    size = None
    if compression in _JPEG:
        size = _jpeg_size(data)
    elif compression in _JPEG2000 and (start := data.find(b"\xff\x4f\xff\x51")) >= 0:
        field = [int.from_bytes(data[start + i : start + i + 4], "big") for i in (8, 12, 16, 20)]
        size = (field[1] - field[3], field[0] - field[2])
    if size is not None and (size[0] > 2 * tile[0] or size[1] > 2 * tile[1]):
        raise ValueError(f"a stream of {size[0]} x {size[1]} px stands for a tile of {tile}")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) of the frame header of a JPEG stream, None without one."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(data[at + 5 : at + 7], "big"), int.from_bytes(
                data[at + 7 : at + 9], "big"
            )
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
