"""The model that was loaded last, kept: it is looked at first and used in a moment."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_wsss.models import WsssModel

__all__ = ["loaded_model"]


def loaded_model(path: Path) -> WsssModel:
    """Return the model of a checkpoint; the same object as long as the file is the same.

    Raises
    ------
    CheckpointError
        As `load_model`.
    """
    try:
        found = path.stat()
    except OSError:
        return _load(path, ())  # which says what is wrong
    return _load(path, (found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=1)
def _load(path: Path, stamp: tuple[int, ...]) -> WsssModel:
    from napari_wsss.models import load_model

    return load_model(path)
