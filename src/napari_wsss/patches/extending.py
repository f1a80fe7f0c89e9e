"""A patch set that grows: patches with masks are added group by group, all of one or none.

The folder is of the format that `cut_patches` writes. Files come first, the table that lists
them last, so whatever the moment of a crash, the set is the one before or the one after.
"""

from __future__ import annotations

import csv
import io
import re
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.files import output_error, write_atomic
from napari_wsss.patches.cut_checks import check_cuttable
from napari_wsss.patches.formats import own
from napari_wsss.patches.formats.common import CLASSES_FILE
from napari_wsss.patches.patch_set import default_glass

__all__ = ["PatchExtender"]

_TABLE = "labels.csv"
_REVISION = re.compile(r"_r(\d+)\.png$")


class PatchExtender:
    """Context that adds one group of patches; leaving it before `finish` adds nothing.

    Patches that the group had before are replaced.

    Parameters
    ----------
    folder
        The set; made if there is none.
    classes
        With mask values; must be those of the set.
    group
        Name of the group.
    size_px
        Side of the patches.
    mpp
        µm/px of the patches; None if unknown.

    Raises
    ------
    DataError
        On entering, if the set there has other classes.
    OutputError
        If something else is there, another process adds to it, or it cannot be written.
    """

    def __init__(
        self, folder: Path, classes: ClassTable, *, group: str, size_px: int, mpp: float | None
    ) -> None:
        check_cuttable(classes)
        self._folder, self._classes, self._group = folder, classes, group
        self._size_px, self._mpp = size_px, mpp
        self._lock = FileLock(folder / ".lock", timeout=0, thread_local=False)
        self._kept: list[list[str]] = []
        self._replaced: list[str] = []
        self._added: list[list[str]] = []
        self._finished = False
        self._revision = 1
        colors = np.full((256, 3), 255, np.uint8)
        for info in classes.classes:
            colors[info.value] = info.rgb
        self._palette = colors.tobytes()

    def __enter__(self) -> Self:
        names = {p.name for p in self._folder.iterdir()} if self._folder.is_dir() else set()
        ours = names <= {".lock", "images", "masks", _TABLE, CLASSES_FILE, own.DATASET_FILE}
        if (self._folder.exists() and not self._folder.is_dir()) or not (ours or self._is_set()):
            raise OutputError(
                f"{self._folder} exists and is no set of corrections. Choose another folder."
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise OutputError(
                f"Another process is adding patches to {self._folder}. Wait for it to end."
            ) from None
        except OSError as error:
            raise output_error(self._folder, error) from error
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._read()
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        gone = self._replaced if self._finished else [row[0] for row in self._added]
        for path in gone:
            for file in (self._folder / path, self._mask_file(path)):
                file.unlink(missing_ok=True)
        self._lock.release()

    def add(
        self,
        name: str,
        image: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        labels: NDArray[np.bool_],
    ) -> None:
        """Write one patch.

        Parameters
        ----------
        name
            Unique in the group and like no other group's; a revision is put behind it.
        image, mask
            RGB, (H, W, 3), and mask values, (H, W).
        labels
            (K,) bool.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        path = f"images/{name}_r{self._revision}.png"
        indexed = Image.fromarray(np.ascontiguousarray(mask))
        indexed.putpalette(self._palette)
        self._added.append([path, self._group, "train", *map(str, labels.astype(int).tolist())])
        write_atomic(self._folder / path, _png(Image.fromarray(np.ascontiguousarray(image))))
        write_atomic(self._mask_file(path), _png(indexed))

    def finish(self) -> None:
        """Make the patches part of the set.

        Raises
        ------
        OutputError
            If the tables cannot be written.
        """
        import tomli_w

        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["path", "group", "split", *self._classes.names])
        table.writerows([*self._kept, *self._added])
        if not self._is_set():
            header = {
                "format": own.FORMAT,
                "version": own.VERSION,
                **({} if self._mpp is None else {"mpp": float(self._mpp)}),
                "size_px": self._size_px,
                "glass": default_glass(self._classes),
            }
            classes = tomli_w.dumps(self._classes.to_dict())
            write_atomic(self._folder / CLASSES_FILE, classes.encode())
            write_atomic(self._folder / _TABLE, text.getvalue().encode())
            write_atomic(self._folder / own.DATASET_FILE, tomli_w.dumps(header).encode())
        else:
            write_atomic(self._folder / _TABLE, text.getvalue().encode())
        self._finished = True

    def _is_set(self) -> bool:
        return own.recognise(self._folder)

    def _read(self) -> None:
        """Take over the rows of the set that is there, but for those of this group."""
        if not self._is_set():
            return
        header = own.read_header(self._folder)
        known = ClassTable.read(self._folder / CLASSES_FILE)
        if known.to_dict() != self._classes.to_dict():
            raise DataError(
                f"{self._folder} has the classes {', '.join(known.names)}, the result "
                f"{', '.join(self._classes.names)} (or other colours). Choose another folder."
            )
        mpp = header.get("mpp")
        if (mpp is None) != (self._mpp is None) or (mpp and abs(mpp / self._mpp - 1) > 0.02):
            raise DataError(
                f"The patches in {self._folder} have {mpp} µm/px, the result {self._mpp}. Choose "
                "another folder."
            )
        try:
            with (self._folder / _TABLE).open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
        except (OSError, ValueError, csv.Error) as error:
            raise DataError(f"{self._folder / _TABLE} cannot be read: {error}") from error
        self._kept = [row for row in rows if row[1] != self._group]
        self._replaced = [row[0] for row in rows if row[1] == self._group]
        numbers = [int(m[1]) for path in self._replaced if (m := _REVISION.search(path))]
        self._revision = 1 + max(numbers, default=0)

    def _mask_file(self, path: str) -> Path:
        return self._folder / "masks" / path.removeprefix("images/")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=3)
    return buffer.getvalue()
