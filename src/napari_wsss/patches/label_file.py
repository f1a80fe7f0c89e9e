"""Labels of a slide as a small text file that is written while one labels.

A file of JSON lines: the first says slide, patches and classes; each further line is the
state of one patch, and a later line about a patch replaces an earlier one. A change adds
lines to the end, so that it costs the same however many patches are labelled, and a program
that is killed loses none. On opening and closing the file is rewritten, one line per patch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.files import check_absent, output_error, write_atomic
from napari_wsss.patches.grid import PatchGrid
from napari_wsss.patches.slide_labels import LEFT_OUT, SlideLabels, SlideRecord

__all__ = ["LABELS_SUFFIX", "LabelFile", "label_files", "read_header", "read_labels"]

LABELS_SUFFIX = ".labels.jsonl"
_FORMAT, _VERSION = "napari-wsss slide labels", 1


def label_files(folder: str | Path) -> list[Path]:
    """Return the files of labels in a folder, sorted; none if there is no such folder."""
    return sorted(p for p in Path(folder).glob(f"*{LABELS_SUFFIX}") if not p.name.startswith("."))


def read_header(path: str | Path) -> SlideLabels:
    """Read which slide, patches and classes a file is about, without its labels.

    Raises
    ------
    DataError
        If it cannot be read, or is no such file.
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8") as file:
            return _from_header(path, file.readline())
    except FileNotFoundError:
        raise DataError(f"There is no file of labels {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_labels(path: str | Path) -> SlideLabels:
    """Read the labels of a slide; changes to what is returned are not stored.

    A last line that was cut off is left out.

    Raises
    ------
    DataError
        If the file cannot be read, or is damaged; the line is named.
    """
    path = Path(path)
    labels = read_header(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not lines[-1].endswith("\n"):
        lines.pop()
    cells, codes, times = [], [], []
    indices = {name: k for k, name in enumerate(labels.classes.names)}
    for number, line in enumerate(lines[1:], start=2):
        try:
            entry = json.loads(line)
            row, column = entry["row"], entry["column"]
            if not (0 <= row < labels.grid.rows and 0 <= column < labels.grid.columns):
                raise ValueError(f"there is no patch in row {row}, column {column}")
            code = sum({1 << indices[name] for name in entry["labels"]})
            codes.append(LEFT_OUT if entry.get("left_out") else code)
            times.append(datetime.fromisoformat(entry["at"]).timestamp() if codes[-1] else 0.0)
            cells.append(row * labels.grid.columns + column)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{path}, line {number}: {line.strip()[:80]!r} is not the label of a patch "
                f"({type(error).__name__}: {error}). Take that line out, or restore a copy."
            ) from None
    # Of equal indices numpy keeps the last.
    labels.restore(np.array(cells, np.int64), np.array(codes, np.uint32), np.array(times))
    return labels


class LabelFile:
    """A file of labels that is open for labelling; one window at a time can have it.

    Make one with `create` or `open`, change `labels`, and `close` it.

    Attributes
    ----------
    path
        The file.
    labels
        Its labels; every change is stored at once.
    """

    def __init__(self, path: Path, labels: SlideLabels) -> None:
        self.path = path
        self.labels = labels
        self._closed = False
        #: Whether the file lacks changes, because writing failed.
        self._behind = False
        self._lines = 0
        lock = path.with_name(f".{path.name}.lock")
        self._lock = FileLock(lock)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OutputError(
                f"{path.name} is being labelled in another window. Close it there first."
            ) from None
        except OSError as error:
            raise output_error(path, error) from error
        labels.keep = self._keep

    @classmethod
    def create(cls, path: str | Path, labels: SlideLabels) -> Self:
        """Begin a file with what `labels` holds.

        Raises
        ------
        OutputError
            If it exists or cannot be written.
        """
        path = Path(path)
        check_absent(path, overwrite=False)
        return cls._begun(path, labels)

    @classmethod
    def open(cls, path: str | Path, slide: SlideRecord | None = None) -> Self:
        """Go on with a file.

        Parameters
        ----------
        path
            The file.
        slide
            The slide as it is now, if it may have moved since.

        Raises
        ------
        DataError
            If the file is damaged, or labels another slide.
        OutputError
            If it is open elsewhere or cannot be written.
        """
        path = Path(path)
        labels = read_labels(path)
        if slide is not None:
            if not slide.was(labels.slide.fingerprint):
                raise DataError(
                    f"{path} labels {labels.slide.name}, and the content of {slide.name} is "
                    "not the same. Open the slide that was labelled."
                )
            labels.slide = slide
        return cls._begun(path, labels)

    @classmethod
    def _begun(cls, path: Path, labels: SlideLabels) -> Self:
        file = cls(path, labels)
        try:
            file._rewrite()
        except OutputError:
            file._lock.release()
            raise
        return file

    def close(self) -> None:
        """Tidy the file up and let others have it; called again, it does nothing.

        Raises
        ------
        OutputError
            If changes could not be stored.
        """
        if self._closed:
            return
        self._closed = True
        self.labels.keep = None
        try:
            if self._behind or self._lines > len(self.labels.decided):
                self._rewrite()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- writing ------------------------------------------------------------------------

    def _keep(self, cells: NDArray[np.int64] | None) -> None:
        if cells is None or self._behind:
            self._rewrite()
            return
        text = "".join(_lines(self.labels, cells))
        try:
            # r+: a file that somebody removed must not begin anew without its header.
            with self.path.open("r+b", buffering=0) as file:
                file.seek(0, 2)
                file.write(text.encode())
        except FileNotFoundError:
            self._rewrite()
        except OSError as error:
            self._behind = True
            raise output_error(self.path, error) from error
        self._lines += len(cells)

    def _rewrite(self) -> None:
        decided = self.labels.decided
        text = json.dumps(_header(self.labels), ensure_ascii=False) + "\n"
        self._behind = True
        write_atomic(self.path, (text + "".join(_lines(self.labels, decided))).encode())
        self._behind, self._lines = False, len(decided)


def _lines(labels: SlideLabels, cells: NDArray[np.int64]) -> Iterable[str]:
    """Return a line per cell; equal labels and times, as of a stroke, are formatted once."""
    codes, times = labels.codes[cells], labels.times[cells]
    rows, columns = np.divmod(cells, labels.grid.columns)
    ends: dict[tuple[int, float], str] = {}
    for row, column, code, at in zip(
        rows.tolist(), columns.tolist(), codes.tolist(), times.tolist(), strict=True
    ):
        end = ends.get((code, at))
        if end is None:
            end = ends[code, at] = json.dumps(_state(labels, code, at), ensure_ascii=False)[1:]
        yield f'{{"row": {row}, "column": {column}, {end}\n'


def _state(labels: SlideLabels, code: int, at: float) -> dict[str, Any]:
    names = [name for k, name in enumerate(labels.classes.names) if code >> k & 1]
    state: dict[str, Any] = {"labels": names if code != LEFT_OUT else []}
    if code == LEFT_OUT:
        state["left_out"] = True
    if code:
        state["at"] = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return state


def _header(labels: SlideLabels) -> dict[str, Any]:
    slide, grid = labels.slide, labels.grid
    return {
        "format": _FORMAT,
        "version": _VERSION,
        "slide": {**asdict(slide), "path": None if slide.path is None else str(slide.path)},
        "patches": asdict(grid),
        "classes": labels.classes.to_dict()["class"],
    }


def _from_header(path: Path, line: str) -> SlideLabels:
    try:
        header = json.loads(line)
        if not isinstance(header, Mapping) or header.get("format") != _FORMAT:
            raise ValueError("its first line is not the header of such a file")
        if header["version"] != _VERSION:
            raise ValueError(f"version {header['version']!r}; this napari-wsss reads {_VERSION}")
        slide, grid = dict(header["slide"]), dict(header["patches"])
        slide["path"] = None if slide["path"] is None else Path(slide["path"])
        slide["shape"], grid["step_px"] = tuple(slide["shape"]), tuple(grid["step_px"])
        classes = ClassTable.from_dict({"class": header["classes"]}, f"the classes in {path}")
        return SlideLabels(SlideRecord(**slide), PatchGrid(**grid), classes)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path} is not a file of slide labels: {error}.") from None
