"""The journal of a run: which blocks are on disk, one line each, added when they are."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    none. A last line that was cut off is dropped.

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
        """Return the blocks that are done, None if there is no journal; mends a cut last line.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        data = self._bytes()
        if data is None:
            return None
        entries, good = _entries(data)
        if good < len(data):
            with writing(self.path), self.path.open("r+b") as file:
                file.truncate(good)
        return entries

    def peek(self) -> dict[Rect, Entry]:
        """Return the blocks that are done, while another thread or process may be writing.

        Raises
        ------
        OutputError
            If it cannot be read.
        """
        return _entries(self._bytes() or b"")[0]

    def add(self, entry: Entry) -> None:
        """Add a line.

        Raises
        ------
        OutputError
            If it cannot be written; also if the file is no longer there.
        """
        line = json.dumps(asdict(entry)).encode() + b"\n"
        with writing(self.path), self.path.open("r+b", buffering=0) as file:
            file.seek(0, 2)
            file.write(line)

    def _bytes(self) -> bytes | None:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise output_error(self.path, error) from error


def _entries(data: bytes) -> tuple[dict[Rect, Entry], int]:
    """Return the entries of the whole lines at the beginning, and how many bytes they take."""
    entries: dict[Rect, Entry] = {}
    good = 0
    for line in data.splitlines(keepends=True):
        entry = _parsed(line)
        if entry is None:
            break
        entries[entry.rect] = entry
        good += len(line)
    return entries, good


def _parsed(line: bytes) -> Entry | None:
    """Return the entry of a whole line, None if it was cut off or altered."""
    if not line.endswith(b"\n"):
        return None
    try:
        fields = json.loads(line)
        return Entry(Rect(*map(int, fields.pop("rect"))), **fields)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
