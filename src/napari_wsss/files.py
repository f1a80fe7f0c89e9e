"""Writing files all or nothing, and never over what a user has."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from napari_wsss.errors import OutputError

__all__ = ["check_absent", "check_writable", "output_error", "write_atomic"]


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


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    The bytes go to a temporary file beside `path`, reach the disk (if `durable`; many small
    files that can be made again need not wait for it), and take its name.

    Raises
    ------
    OutputError
        If the folder cannot be written or the disk is full.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        _give_default_mode(temporary)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        raise output_error(path, error, len(data)) from error


def output_error(path: Path, error: OSError, needed: int | None = None) -> OutputError:
    """Say in a user's words why `path` could not be written."""
    if error.errno == errno.ENOSPC:
        size = "" if needed is None else f" {needed / 1e6:.1f} MB are needed."
        return OutputError(f"The disk of {path} is full.{size} Free some space and try again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path} cannot be written: no permission. Choose another folder.")
    return OutputError(f"{path} cannot be written: {error}")


def _give_default_mode(path: str) -> None:
    """Give a temporary file the permissions that a new file would have had."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
