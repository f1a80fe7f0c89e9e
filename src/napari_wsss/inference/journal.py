"""The journal of a run: which blocks are on disk, one line each, added when they are."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import RawIOBase
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.files import output_error
from napari_wsss.inference.tiles import Rect
from napari_wsss.slides.pyramid import writing

__all__ = ["Entry", "Journal", "digest"]


@dataclass(frozen=True)
class Entry:
    """A block that is done.

    Attributes
    ----------
    rect
        The block.
    stats
        What it contributes to the summary.
    digest
        Of its stored pixels, so that a block whose line reached the disk before its pixels
        did (a power cut) is found out.
    unreadable
        Why its pixels could not be read, if it was marked so.
    """

    rect: Rect
    stats: list[float]
    digest: str
    unreadable: str | None = None


def digest(arrays: Sequence[NDArray[Any]]) -> str:
    """Return the CRC-32 (hex) of the pixels of a block.

    It is there against accidents, which it finds as a cryptographic hash does, in a fifth of
    the time; the sha256 of a finished result are another matter (`verify`).
    """
    state = 0
    for array in arrays:
        state = zlib.crc32(np.ascontiguousarray(array).data, state)
    return f"{state:08x}"


class Journal:
    """A file of JSON lines that only grows.

    Lines are written whole and handed to the system at once: a process that is killed loses
    none. A line that is torn nevertheless (a full disk, a power cut) costs only itself.

    Parameters
    ----------
    path
        The file.
    """

    def __init__(self, path: Path):
        self.path = path

    def create(self) -> None:
        """Begin an empty journal.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        with writing(self.path):
            self.path.write_bytes(b"")

    def read(self) -> dict[Rect, Entry] | None:
        """Return the blocks that are done, None if there is no journal.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        data = self._bytes()
        return None if data is None else _entries(data)

    def peek(self) -> dict[Rect, Entry]:
        """Return the blocks that are done, while another thread or process may be writing.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        return _entries(self._bytes() or b"")

    def add(self, entry: Entry) -> None:
        """Add a line.

        Raises
        ------
        OutputError
            If it cannot be written; also if the file is no longer there.
        """
        line = json.dumps(asdict(entry)).encode() + b"\n"
        with writing(self.path), self.path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end and not _ends_a_line(file, end):
                line = b"\n" + line
            try:
                _write_all(file, line)
            except OSError:
                with suppress(OSError):  # the next one begins a new line in any case
                    file.truncate(end)
                raise

    def _bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise output_error(self.path, error) from error


def _ends_a_line(file: RawIOBase, end: int) -> bool:
    file.seek(end - 1)
    return file.read(1) == b"\n"


def _write_all(file: RawIOBase, data: bytes) -> None:
    """Write all of `data`: the system may take a part of it, and say only how much."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _entries(data: bytes) -> dict[Rect, Entry]:
    """Return the entries of the whole lines."""
    entries = (_parsed(line) for line in data.splitlines(keepends=True))
    return {entry.rect: entry for entry in entries if entry is not None}


def _parsed(line: bytes) -> Entry | None:
    """Return the entry of a whole line, None if it was cut off or altered."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
        return Entry(Rect(*map(int, fields.pop("rect"))), **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
