"""Writing a file so that it is either the whole new one or the previous one, never half."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from napari_wsss.errors import OutputError

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: str | Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends well.

    Parameters
    ----------
    path
        Where the file shall be; its folder is made if there is none.
    overwrite
        Whether a file that is there may be replaced.

    Yields
    ------
    BinaryIO
        The open temporary file, in the same folder as `path`.

    Raises
    ------
    OutputError
        If `path` exists and `overwrite` is false, or it cannot be written. What was there
        before is then still there, and no temporary file is left.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file to write.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists. Choose another name, or allow overwriting it.")
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise OutputError(
                f"The disk is full: {path} cannot be written. Free space and try again."
            ) from error
        raise OutputError(f"{path} cannot be written: {error}") from error
