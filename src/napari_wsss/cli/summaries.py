"""Summaries for machines: JSON, written whole or not at all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_wsss.errors import OutputError
from napari_wsss.files import output_error, write_atomic

__all__ = ["check_summary", "plain", "write_summary"]


def check_summary(path: Path) -> None:
    """Refuse a file that is something else than a summary, before any work is done.

    An earlier summary is replaced, because it can be made again; a slide, a model or a
    table named by mistake is not.

    Raises
    ------
    OutputError
        If `path` is a folder, or a file that is neither empty nor a JSON object.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file for the JSON summary.")
    if not path.is_file():
        return
    try:
        with path.open("rb") as file:
            first = file.read(1)
    except OSError as error:
        raise output_error(path, error) from error
    if first not in (b"", b"{"):
        raise OutputError(
            f"{path} exists and is no JSON summary; it is left as it is. Name another file."
        )


def write_summary(path: Path, data: Mapping[str, Any]) -> None:
    """Write `data` as JSON to `path`.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    content = (json.dumps(plain(data), indent=2, ensure_ascii=False) + "\n").encode()
    if not path.exists() or path.is_file():
        write_atomic(path, content)
        return
    try:  # a pipe or a device, which must not be replaced by a file
        path.write_bytes(content)
    except OSError as error:
        raise output_error(path, error) from error


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: paths as text, NaN and infinities as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # numpy scalars
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
