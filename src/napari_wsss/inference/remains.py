"""What is left of a result that was deleted while it was written.

Where a chunk is stored, zarr makes the folders above it. So whoever still writes when a result is
deleted leaves chunks that nothing describes. They are worth nothing, and must be no obstacle.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from napari_wsss.inference.result import LABELS
from napari_wsss.inference.verify import RUN_ONLY
from napari_wsss.slides.pyramid import writing

__all__ = ["only_remains", "remove_remains"]

_CHUNK = re.compile(rf"({LABELS}/)?\d+/c(/\d+)+(\.\w+\.partial)?")


def only_remains(path: Path) -> bool:
    """Whether a folder without a run record holds nothing but the beginning or end of a result."""
    for child in path.iterdir():
        if child.name in RUN_ONLY or _half_record(child.name):
            continue
        if not _holds_levels(child):
            return False
        for file in child.rglob("*"):
            plain = file.is_dir() or _CHUNK.fullmatch(file.relative_to(path).as_posix())
            if file.is_symlink() or not plain:
                return False
    return True


def remove_remains(path: Path) -> None:
    """Remove chunks without a description from a folder of which `only_remains` is true.

    Raises
    ------
    OutputError
        If they cannot be removed.
    """
    with writing(path):
        for child in list(path.iterdir()):
            if _holds_levels(child):
                shutil.rmtree(child)


def _holds_levels(path: Path) -> bool:
    named = path.name.isdecimal() or path.name == LABELS.split("/")[0]
    return named and path.is_dir() and not path.is_symlink()


def _half_record(name: str) -> bool:
    """Whether a run was killed while it wrote its very first file."""
    return name.startswith(".run.json") and name.endswith(".partial")
