"""Writing a patch set: into a hidden folder beside the target, renamed when complete."""

from __future__ import annotations

import csv
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.files import output_error
from napari_wsss.patches.formats import own
from napari_wsss.patches.formats.common import CLASSES_FILE

__all__ = ["DatasetWriter"]


class DatasetWriter:
    """Context that writes a patch set; leaving it before `finish` leaves nothing behind.

    Parameters
    ----------
    out
        The folder to make.
    classes
        Class table; with mask values if masks are added.
    overwrite
        Whether a set that napari-wsss wrote may be replaced.
    sources
        Files and folders that are being read; `out` must neither lie in one nor hold one.

    Raises
    ------
    OutputError
        If `out` exists and may not be replaced, lies in a source, or cannot be written.
    """

    def __init__(
        self, out: Path, classes: ClassTable, *, overwrite: bool, sources: Sequence[Path] = ()
    ) -> None:
        self._out = out.resolve()
        self._folder = self._out.with_name(f".{self._out.name}.{uuid.uuid4().hex[:8]}.partial")
        self._classes = classes
        self._rows: list[list[object]] = []
        self._palette = _palette(classes)
        for source in sources:
            path = source.resolve()
            if self._out == path or path in self._out.parents or self._out in path.parents:
                raise OutputError(f"{out} and the input {source} overlap. Choose another folder.")
        _check_replaceable(self._out, overwrite)

    def __enter__(self) -> Self:
        with _writing(self._out):
            self._out.parent.mkdir(parents=True, exist_ok=True)
            self._folder.mkdir()
            (self._folder / "images").mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(
        self,
        name: str,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8] | None,
        labels: NDArray[np.bool_],
        group: str,
        split: str,
    ) -> None:
        """Write one patch.

        Parameters
        ----------
        name
            Unique name, the file name without suffix.
        image, mask
            RGB, shape (H, W, 3), and mask values, shape (H, W); None where there are none.
        labels
            (K,) bool.
        group, split
            As in `PatchSet`.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = f"images/{name}.png"
        with _writing(self._out):
            Image.fromarray(np.ascontiguousarray(image)).save(
                self._folder / path, compress_level=3
            )
        if mask is not None:
            self._add_mask(name, mask)
        self._rows.append([path, group, split, *labels.astype(int).tolist()])

    def _add_mask(self, name: str, mask: NDArray[np.uint8]) -> None:
        # Palette PNG: the indices are the values, the colours are for whoever looks at it.
        indexed = Image.fromarray(np.ascontiguousarray(mask))
        indexed.putpalette(self._palette)
        folder = self._folder / "masks"
        with _writing(self._out):
            folder.mkdir(exist_ok=True)
            indexed.save(folder / f"{name}.png")

    def finish(self, header: Mapping[str, Any]) -> None:
        """Write the tables and put the set where it belongs.

        Parameters
        ----------
        header
            What ``dataset.toml`` says beside format and version.

        Raises
        ------
        OutputError
            If it cannot be written; a set that was to be replaced is still there then.
        """
        import tomli_w

        text = tomli_w.dumps({"format": own.FORMAT, "version": own.VERSION, **header})
        with _writing(self._out):
            self._classes.write(self._folder / CLASSES_FILE)
            with (self._folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(["path", "group", "split", *self._classes.names])
                table.writerows(self._rows)
            (self._folder / own.DATASET_FILE).write_text(text, encoding="utf-8")
            self._put_in_place()

    def _put_in_place(self) -> None:
        old = self._folder.with_suffix(".replaced")
        if self._out.exists():
            self._out.rename(old)
        try:
            self._folder.rename(self._out)
        except OSError:
            if old.exists():
                old.rename(self._out)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(out: Path, overwrite: bool) -> None:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise OutputError(f"{out} exists. Choose another folder, or say --overwrite.")
    try:
        own.read_header(out)
    except DataError:
        raise OutputError(
            f"{out} was not written by napari-wsss, so it is not replaced. Choose another folder."
        ) from None


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn what the file system raises into OutputError."""
    try:
        yield
    except OSError as error:
        raise output_error(out, error) from error


def _palette(classes: ClassTable) -> list[int]:
    """Return 256 colours, flat: those of the classes at their values, white elsewhere."""
    colors = np.full((256, 3), 255, np.uint8)
    for info in classes.classes:
        if info.value is not None:
            colors[info.value] = info.rgb
    return colors.reshape(-1).tolist()
