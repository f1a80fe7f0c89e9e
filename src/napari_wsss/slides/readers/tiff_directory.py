"""Is a TIFF whole? Its chain of directories, and the tiles that they point to."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss.errors import SlideError

__all__ = ["check_complete", "check_directories", "damaged", "is_tiff"]

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: More directories than any slide has; also ends a chain that runs in a circle.
_MAX_DIRECTORIES = 10_000


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins with `head` is a TIFF or BigTIFF."""
    return head[:4] in _MAGIC


def damaged(path: Path, reason: object) -> SlideError:
    """Return the error for a directory that cannot be used: usually a file cut off."""
    try:
        check_directories(path)
    except SlideError as error:
        return error
    return SlideError(
        f"{path} is a damaged TIFF ({reason}). Copy it again from its source, or convert it "
        "to a tiled TIFF."
    )


def check_directories(path: Path) -> None:
    """Follow the chain of directories to its end.

    tifffile logs a chain that leads out of the file and goes on with the pages before.

    Raises
    ------
    SlideError
        If a directory lies beyond the end of the file, naming the bytes missing at least.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(16)
        order: Any = "little" if head[:2] == b"II" else "big"
        big = b"+" in head[2:4]
        # Bytes of a directory's entry count, of one entry, and of the offset of the next.
        count_size, entry_size, offset_size = (8, 20, 8) if big else (2, 12, 4)
        offset = int.from_bytes(head[8:16] if big else head[4:8], order)
        for _ in range(_MAX_DIRECTORIES):
            if not offset:
                return
            file.seek(min(offset, size))
            entries = int.from_bytes(file.read(count_size), order)
            end = offset + count_size + entries * entry_size + offset_size
            if end > size:
                raise SlideError(
                    f"{path} is cut off: a directory at byte {offset:,} ends at {end:,} but the "
                    f"file at {size:,}, so at least {end - size:,} bytes are missing. Copy it "
                    "again from its source."
                )
            file.seek(end - offset_size)
            offset = int.from_bytes(file.read(offset_size), order)


def check_complete(path: Path, pages: Iterable[Any]) -> None:
    """Raise SlideError if tiles of `pages` lie past the end: tifffile opens such files."""
    size = path.stat().st_size
    end = 0
    for page in pages:
        offsets = np.asarray(page.dataoffsets, np.uint64)
        counts = np.asarray(page.databytecounts, np.uint64)
        if len(offsets) != len(counts):
            raise damaged(path, "tile offsets and sizes do not match in number")
        ends = offsets + counts
        if (ends < offsets).any():
            raise damaged(path, "a tile offset is out of range")
        if len(ends):
            end = max(end, int(ends.max()))
    if end > size:
        raise SlideError(
            f"{path} is cut off: its tiles end at byte {end:,} but the file at {size:,}, so "
            f"{end - size:,} bytes are missing. Copy it again from its source."
        )
