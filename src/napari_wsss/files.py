"""Writing files all or nothing, and never over what a user has."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from napari_wsss.errors import OutputError

__all__ = ["atomic_write", "check_absent", "check_writable", "output_error", "write_atomic"]


def check_absent(path: Path, overwrite: bool) -> None:
    """Raise OutputError if `path` exists and may not be replaced."""
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path} exists and is left as it is. Choose another name, or allow it to be "
            "replaced with --overwrite."
        )


def check_writable(path: Path) -> None:
    """Raise OutputError if `path` could not be written, before hours are spent on it.

    Its folder is made if it is not there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=f".{path.name}.", dir=path.parent):
            pass
    except OSError as error:
        raise output_error(path, error) from error


@contextmanager
def atomic_write(
    path: str | Path, *, overwrite: bool, durable: bool = True, needed_bytes: int | None = None
) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends well.

    Parameters
    ----------
    path
        Where the file shall be; its folder is made if there is none.
    overwrite
        Whether a file that is there may be replaced.
    durable
        Whether to wait until the bytes have reached the disk; many small files that can be
        made again need not.
    needed_bytes
        Size of the file, stated if the disk is full.

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
    check_absent(path, overwrite)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise output_error(path, error, needed_bytes) from error


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full.
    """
    with atomic_write(path, overwrite=True, durable=durable, needed_bytes=len(data)) as file:
        file.write(data)


def output_error(path: Path, error: OSError, needed: int | None = None) -> OutputError:
    """Say in a user's words why `path` could not be written."""
    if error.errno == errno.ENOSPC:
        size = "" if needed is None else f" {needed / 1e6:.1f} MB are needed."
        return OutputError(f"The disk of {path} is full.{size} Free some space and try again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path} cannot be written: no permission. Choose another folder.")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return OutputError(
            f"{path} cannot be written: a file is where its folder should be. Choose another "
            "folder."
        )
    return OutputError(f"{path} cannot be written: {error}")
