"""What a slide file is known by: a hash of samples, as slides are too large to read whole."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from napari_wsss.errors import SlideError

__all__ = ["file_fingerprint", "is_same_file"]

_MIB = 1 << 20
#: Files up to this size (bytes) are hashed whole.
_WHOLE = 16 * _MIB
#: Pieces (bytes, number) of larger ones, evenly spread, beside the first and the last MiB.
_PIECE, _PIECES = 1 << 16, 32
#: Pieces of each file that belongs to the first; some formats have dozens.
_FEWER = 4


def file_fingerprint(path: Path, companions: Iterable[Path] = ()) -> str:
    """Return a sha256 of size and samples of a file, and of the files that belong to it.

    A change of what lies between the samples is not noticed in a file over 16 MiB whose size
    stays the same. It takes some hundredths of a second, whatever the size.

    Parameters
    ----------
    path
        The slide.
    companions
        Files that hold its pixels where that is only an index; known by their names, too.

    Raises
    ------
    SlideError
        If a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        _update(digest, path, _PIECES)
        for companion in sorted(companions):
            digest.update(f"\0{companion.name}\0".encode())
            _update(digest, companion, _FEWER)
    except OSError as error:
        raise SlideError(f"{path} can no longer be read: {error}") from error
    return digest.hexdigest()


def is_same_file(stored: str, now: str, path: Path | None) -> bool:
    """Whether a stored fingerprint is that of a slide.

    Labels and results of earlier versions hold another kind, of size and first and last MiB;
    people's work is in them, so that is recognised as well.

    Parameters
    ----------
    stored
        As it was written down.
    now
        Of the slide as it is.
    path
        The slide's file, None for arrays.
    """
    if stored == now:
        return True
    try:
        if path is None or not path.is_file():
            return False
        status = path.stat()
        return stored == _earlier(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return False


def _update(digest: hashlib._Hash, path: Path, pieces: int) -> None:
    size = path.stat().st_size
    digest.update(f"{size}\0".encode())
    with path.open("rb") as file:
        if size <= _WHOLE:
            while block := file.read(_MIB):
                digest.update(block)
            return
        digest.update(_read(file, 0, _MIB))
        for i in range(1, pieces + 1):
            digest.update(_read(file, i * size // (pieces + 1), _PIECE))
        digest.update(_read(file, size - _MIB, _MIB))


@functools.lru_cache(maxsize=1024)
def _earlier(path: Path, size: int, changed_ns: int) -> str:
    """Return the earlier kind; a folder of labels asks for that of one slide many times."""
    with path.open("rb") as file:
        head, tail = _read(file, 0, _MIB), _read(file, max(size - _MIB, 0), _MIB)
    return hashlib.sha256(f"{size}\0".encode() + head + tail).hexdigest()


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
