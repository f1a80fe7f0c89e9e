"""What a reader is: the shapes of its levels and a way to read a rectangle of one."""

from __future__ import annotations

import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import SlideError
from napari_wsss.slides.fingerprint import file_fingerprint

__all__ = ["FOREIGN_ERRORS", "Reader", "read_error"]

#: What decoders raise on damaged files; caught where a decoder is called, nowhere else.
#: RuntimeError includes the errors of imagecodecs, ValueError those of zarr. MemoryError is not
#: among them: a computer that lacks memory says nothing about the file, which may be sound.
FOREIGN_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    RuntimeError,
    SyntaxError,
    struct.error,
    zlib.error,
)


def read_error(error: BaseException | str, where: str, level: int, y: int, x: int) -> SlideError:
    """Return the SlideError for pixels that cannot be decoded."""
    reason = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
    return SlideError(
        f"{where} cannot be read at level {level}, y {y}, x {x} (px of that level): {reason}. "
        "The file is probably damaged there; copy it again from its source."
    )


class Reader(ABC):
    """A source of RGB pixels in levels, finest first.

    Attributes
    ----------
    where
        Path or description, for messages.
    shapes
        (height, width) of each level.
    tiles
        (height, width) that is cheapest to read at once, per level.
    mpp
        µm/px of level 0, None if unknown.
    properties
        What else the source says about itself, as text or numbers.
    """

    where: str
    shapes: tuple[tuple[int, int], ...]
    tiles: tuple[tuple[int, int], ...]
    mpp: float | None = None
    properties: dict[str, Any]

    @abstractmethod
    def read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        """Return (height, width, 3) uint8 of a rectangle inside `level`; thread-safe.

        Raises
        ------
        SlideError
            Naming path, level, y and x if the pixels cannot be decoded.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of the content, the same in every run."""

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Release files; reading afterwards is an error."""


class FileReader(Reader):
    """A reader of one file: fingerprint and pickling by path."""

    path: Path

    def fingerprint(self) -> str:
        """Return what `file_fingerprint` makes of the file and its companions."""
        try:
            companions = self.companions()
        except OSError as error:
            raise SlideError(f"{self.path} can no longer be read: {error}") from error
        return file_fingerprint(self.path, companions)

    def companions(self) -> list[Path]:
        """Return the other files that hold pixels of the slide; none by default."""
        return []

    def __reduce__(self) -> tuple[Callable[[Path], Reader], tuple[Path]]:
        # Open files do not travel between processes; a worker opens its own.
        return type(self), (self.path,)
