"""The files of a finished result as a mapping that checks what it reads and collects changes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from zarr.abc.buffer import Buffer
from zarr.buffer import cpu

from napari_wsss.errors import SlideError

__all__ = ["SealedFiles"]


class SealedFiles(MutableMapping[str, Buffer]):
    """What zarr reads from and writes to while a result is changed; the disk stays as it is.

    Parameters
    ----------
    path
        The ``.ome.zarr`` folder.
    sums
        sha256 (hex) of its files, by name.

    Attributes
    ----------
    changes : dict
        New content of the files that are written otherwise than they are stored.

    Notes
    -----
    Reading a file that is not as it was sealed raises SlideError. A new seal after a change
    would otherwise declare good what was damaged before.
    """

    def __init__(self, path: Path, sums: Mapping[str, str]):
        self._path = path
        self.sums = dict(sums)
        self.changes: dict[str, bytes] = {}

    def stored(self, name: str) -> bytes:
        """Return the content of a file on disk.

        Raises
        ------
        SlideError
            If it is missing, unreadable or altered.
        """
        file = self._path / name
        try:
            data = file.read_bytes()
        except OSError as error:
            raise SlideError(f"{file} cannot be read: {error}. The result is damaged.") from error
        if hashlib.sha256(data).hexdigest() != self.sums[name]:
            raise SlideError(
                f"{file} is not as it was written, so the result is damaged. Segment the slide "
                "again, or copy the result again from where it was."
            )
        return data

    def sums_with(self, changes: Mapping[str, bytes]) -> dict[str, str]:
        """Return the checksums once `changes` are written."""
        return {
            **self.sums,
            **{name: hashlib.sha256(data).hexdigest() for name, data in changes.items()},
        }

    def __getitem__(self, name: str) -> Buffer:
        data = self.changes.get(name)
        if data is None:
            if name not in self.sums:
                raise KeyError(name)
            data = self.stored(name)
        return cpu.Buffer.from_bytes(data)

    def __setitem__(self, name: str, value: Buffer) -> None:
        data = value.to_bytes()
        if name in self.sums and hashlib.sha256(data).hexdigest() == self.sums[name]:
            self.changes.pop(name, None)
        else:
            self.changes[name] = data

    def __delitem__(self, name: str) -> None:
        raise KeyError(f"{name}: files of a result are never deleted by a correction")

    def __iter__(self) -> Iterator[str]:
        yield from self.sums.keys() | self.changes.keys()

    def __len__(self) -> int:
        return len(self.sums.keys() | self.changes.keys())
