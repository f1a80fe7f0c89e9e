"""Changing files of a finished result: all of them or none, whatever happens in between.

The new files are first written into a folder beside the old ones. Renaming that folder is the
moment that counts: before it the old result stands, after it the new one. The files are then
moved to their places, by whoever opens the result next if this process dies.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from napari_wsss.errors import OutputError
from napari_wsss.files import output_error
from napari_wsss.slides.pyramid import writing

__all__ = ["CHANGE_FOLDERS", "finish_change", "locked", "replace_files"]

_STAGED, _DECIDED = ".change.new", ".change"
#: Folders of a change that is under way; they are no part of a result.
CHANGE_FOLDERS = (_STAGED, _DECIDED)
#: Seconds that opening a result waits for a change that another process is making.
_PATIENCE = 10.0


@contextmanager
def locked(path: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold the lock of a result; it ends with the process, however that ends.

    A change that was cut off is finished first.

    Parameters
    ----------
    path
        The ``.ome.zarr`` folder.
    patience
        Seconds to wait for somebody else to let go of it.

    Raises
    ------
    OutputError
        If another process (or thread) is at work in the folder, or it cannot be written.
    """
    lock = FileLock(path / ".lock", timeout=patience, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError(f"Another process is writing {path}. Wait for it to end.") from None
    except OSError as error:
        raise output_error(path, error) from error
    try:
        if (path / _DECIDED).is_dir():
            _move(path)
        yield
    finally:
        lock.release()


def replace_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files of a result, all or none; the lock must be held.

    Parameters
    ----------
    path
        The ``.ome.zarr`` folder.
    files
        What each shall hold, by name relative to `path`. Others stay as they are.

    Raises
    ------
    OutputError
        If they cannot be written (disk full, no permission); nothing has changed then.
    """
    staged = path / _STAGED
    try:
        with writing(path, sum(map(len, files.values()))):
            if staged.exists():  # of a process that was killed
                shutil.rmtree(staged)
            for name, data in files.items():
                file = staged / name
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("xb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
            staged.rename(path / _DECIDED)
    except OutputError:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    _move(path)


def finish_change(path: Path) -> None:
    """Finish a change of the result at `path` that was cut off; nothing to do is the rule.

    Raises
    ------
    OutputError
        If there is one and the folder cannot be written.
    """
    if (path / _DECIDED).is_dir():
        with locked(path, _PATIENCE):
            pass


def _move(path: Path) -> None:
    decided = path / _DECIDED
    with writing(path):
        for file in sorted(p for p in decided.rglob("*") if p.is_file()):
            target = path / file.relative_to(decided)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
        shutil.rmtree(decided)
