"""The folder of a run: locked, recognised as ours, resumed only if nothing changed.

Order of writing: folder, lock, ``run.json`` (incomplete), arrays, journal; then blocks, each
followed by its line in the journal; then the coarser levels, ``checksums.json``, and
``run.json`` again, complete; the journal is deleted last. Whatever the moment of a crash, the
next run can tell how far this one came.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import zarr
from filelock import FileLock, Timeout

from napari_wsss.errors import CancelledError, OutputError, SlideError, WsssError, listed
from napari_wsss.files import output_error
from napari_wsss.inference.journal import Journal
from napari_wsss.inference.record import OUTCOME, differences
from napari_wsss.inference.remains import only_remains, remove_remains
from napari_wsss.inference.result import (
    JOURNAL_FILE,
    MODEL_FILE,
    RUN_FILE,
    read_run,
    write_run,
)
from napari_wsss.inference.verify import seal
from napari_wsss.slides.pyramid import writing
from napari_wsss.slides.store import new_group

__all__ = ["RunFolder", "State"]

State = Literal["new", "begun", "finished"]


class RunFolder:
    """A result being made, held by this process alone.

    Parameters
    ----------
    path
        ``NAME.ome.zarr``.
    record
        What the result is determined by.

    Raises
    ------
    OutputError
        On entering, if the folder cannot be made or another process is at work in it. The
        lock is one of the operating system: it ends with the process, however that ends.
    """

    def __init__(self, path: Path, record: Mapping[str, Any]):
        self.path = path
        self.record = dict(record)
        self.journal = Journal(path / JOURNAL_FILE)
        self._begun = False  # from then on, its record is missing only if it was deleted
        self._lock = FileLock(path / ".lock", timeout=0, thread_local=False)

    def __enter__(self) -> Self:
        if self.path.exists() and not self.is_ours():
            raise OutputError(
                f"{self.path} exists and is no result of napari-wsss. Choose another folder."
            )
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"Another process is writing {self.path}. Wait for it to end, or choose another "
                "folder."
            ) from None
        except OSError as error:
            raise output_error(self.path, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        deleted = error is not None and self._begun and not (self.path / RUN_FILE).is_file()
        if deleted:
            self._remove_rest()
        self._lock.release()
        if deleted and isinstance(error, WsssError) and not isinstance(error, CancelledError):
            raise self._gone() from error

    def is_ours(self) -> bool:
        """Whether what is at the path is a result of ours, or the beginning of one."""
        if not self.path.is_dir():
            return False
        return (self.path / RUN_FILE).exists() or only_remains(self.path)

    def prepare(self, overwrite: bool) -> State:
        """Make the folder ready and say what is in it.

        Parameters
        ----------
        overwrite
            Whether a result with other inputs, or a finished one, may be replaced.

        Raises
        ------
        OutputError
            If another result is there that may not be replaced, naming what differs.
        """
        state = self._state()
        if overwrite and state != "new":
            self._clear()
            state = "new"
        elif state != "new":
            earlier = read_run(self.path)
            changed = differences(earlier, self.record)
            if changed:
                was = "finished" if earlier.get("complete") else "unfinished"
                raise OutputError(
                    f"{self.path} exists ({was}) and was made from something else:"
                    f"{listed(changed)}\nChoose another folder, or replace it with --overwrite."
                )
            self.record = {k: v for k, v in earlier.items() if k not in OUTCOME}
        if state == "begun" and self.journal.read() is None:  # its arrays may be half made
            self._clear()
            state = "new"
        if state == "begun":
            self._sweep()
            self._begun = True
        if state == "new":
            remove_remains(self.path)
        if state == "finished":
            self._tidy()
        return state

    def create(self) -> zarr.Group:
        """Write the run record and create the group; the journal follows the arrays."""
        write_run(self.path, {**self.record, "complete": False})
        self._begun = True
        return new_group(self.path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Mark the result complete, with checksums of all its files."""
        self._sweep()  # workers may have been killed, or replaced, while they wrote
        seal(self.path, {**self.record, "summary": dict(summary), "complete": True})
        # Only now: with the journal all would be lost if anything happened before.
        self._tidy()

    def check_there(self) -> None:
        """Raise OutputError if somebody deleted the result while it is being made."""
        if not (self.path / RUN_FILE).is_file():
            raise self._gone()

    def _gone(self) -> OutputError:
        return OutputError(
            f"{self.path} was deleted or moved while it was being written. Start again."
        )

    def _remove_rest(self) -> None:
        """Remove what was made anew of a deleted result; what cannot be, the next run does."""
        with suppress(OSError, OutputError):
            if self.path.is_dir() and only_remains(self.path):
                remove_remains(self.path)
                self.path.rmdir()

    def _state(self) -> State:
        if not (self.path / RUN_FILE).is_file():
            return "new"
        try:
            return "finished" if read_run(self.path).get("complete") else "begun"
        except SlideError as error:
            raise OutputError(f"{error} Replace the result with --overwrite.") from error

    def _sweep(self) -> None:
        """Remove files that were being written by processes that are gone."""
        with writing(self.path):
            for partial in self.path.rglob("*.partial"):
                partial.unlink(missing_ok=True)

    def _tidy(self) -> None:
        """Remove what a finished result needs no more.

        Where that cannot be, it is left to the next run: it is no part of the result.
        """
        for name in (JOURNAL_FILE, MODEL_FILE):
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove everything but the lock; the record goes last, it says whose folder it is.

        Until then it says no longer that all is there.
        """
        write_run(self.path, {**self.record, "complete": False})
        with writing(self.path):
            self.journal.path.unlink(missing_ok=True)
            for child in sorted(self.path.iterdir(), key=lambda p: p.name == RUN_FILE):
                if child.name == ".lock":
                    continue
                if child.is_dir() and not child.is_symlink():
                    shutil.rmtree(child)
                else:
                    child.unlink()
