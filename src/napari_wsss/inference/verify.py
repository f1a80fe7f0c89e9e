"""Checksums of a finished result, and finding what changed since."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from napari_wsss.errors import SlideError
from napari_wsss.files import write_atomic
from napari_wsss.inference.change import CHANGE_FOLDERS, finish_change
from napari_wsss.inference.drafts import DRAFTS
from napari_wsss.inference.result import (
    JOURNAL_FILE,
    MODEL_FILE,
    RUN_FILE,
    read_run,
    run_bytes,
)
from napari_wsss.jobs import CancelToken, Event, Job, Progress, run_job
from napari_wsss.slides.pyramid import writing

__all__ = [
    "CHECKSUMS",
    "RUN_ONLY",
    "read_sums",
    "seal",
    "sealed",
    "verify_job",
    "verify_result",
]

CHECKSUMS = "checksums.json"
#: Files and folders that are no part of the result.
RUN_ONLY = (".lock", JOURNAL_FILE, MODEL_FILE, DRAFTS, *CHANGE_FOLDERS)


def seal(path: Path, record: Mapping[str, Any]) -> None:
    """Write checksums of all files of a result, then its record with a checksum of those.

    Parameters
    ----------
    path
        The ``.ome.zarr`` folder.
    record
        What ``run.json`` shall say.

    Raises
    ------
    OutputError
        If they cannot be written.
    """
    with writing(path):
        sums = {name: _sha256(path / name) for name in _files(path)}
        (path / RUN_FILE).stat()  # or else a folder deleted meanwhile would be made anew
    for name, data in sealed(record, sums).items():
        write_atomic(path / name, data)


def sealed(record: Mapping[str, Any], sums: Mapping[str, str]) -> dict[str, bytes]:
    """Return what the two files that seal a result hold, by name, the record last.

    Parameters
    ----------
    record
        What ``run.json`` shall say.
    sums
        sha256 (hex) of every other file, by name.
    """
    table = json.dumps(dict(sorted(sums.items())), indent=0).encode()
    whole = {**record, "checksums": hashlib.sha256(table).hexdigest()}
    return {
        CHECKSUMS: table,
        RUN_FILE: run_bytes({**whole, "digest": _record_digest(whole)}),
    }


def read_sums(path: Path) -> dict[str, str]:
    """Return sha256 (hex) of every file of a finished result, by name.

    Raises
    ------
    SlideError
        If there are none, or record or checksums were altered.
    """
    problem, sums = _read_seal(path, read_run(path))
    if problem is not None:
        raise SlideError(
            f"{path} was altered or damaged ({problem}). Copy it again, or segment the slide "
            "again."
        )
    return sums


def verify_result(
    path: str | Path,
    *,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> list[str]:
    """Find every file of a result that changed since it was finished.

    Parameters
    ----------
    path
        The ``.ome.zarr`` folder.
    on_event, cancel
        As in `train_classifier`.

    Returns
    -------
    list of str
        One line for each file that is altered, missing or new; empty if all is well.

    Raises
    ------
    SlideError
        If it is no result, or was not finished.
    """
    return run_job(verify_job(Path(path), cancel=cancel), on_event)


def verify_job(path: Path, *, cancel: CancelToken | None = None) -> Job[list[str]]:
    """Yield the events of `verify_result`, which documents the parameters."""
    cancel = cancel or CancelToken()
    finish_change(path)
    record = read_run(path)
    if not record.get("complete"):
        raise SlideError(f"{path} was not finished, so there is nothing to verify it against.")
    problem, sums = _read_seal(path, record)
    if problem is not None:
        return [problem]
    found = set(_files(path))
    problems = [
        f"{name}: was not there when the result was finished" for name in found - set(sums)
    ]
    for done, (name, expected) in enumerate(sums.items(), 1):
        cancel.raise_if_cancelled("Nothing was changed.")
        if name not in found:
            problems.append(f"{name}: missing")
        else:
            try:
                if _sha256(path / name) != expected:
                    problems.append(f"{name}: altered")
            except OSError as error:
                problems.append(f"{name}: unreadable ({error})")
        yield Progress("Verifying", done, len(sums))
    return sorted(problems)


def _read_seal(path: Path, record: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """Return what is wrong with the seal of a result (or None), and its checksums."""
    if record.get("digest") != _record_digest(record):
        return f"{RUN_FILE}: altered", {}
    try:
        table = (path / CHECKSUMS).read_bytes()
    except OSError as error:
        return f"{CHECKSUMS}: missing or unreadable ({error})", {}
    if hashlib.sha256(table).hexdigest() != record.get("checksums"):
        return f"{CHECKSUMS}: altered", {}
    return None, json.loads(table)


def _files(path: Path) -> Iterator[str]:
    """Yield the files of a result by name, without those that hold the checksums."""
    skipped = {RUN_FILE, CHECKSUMS, *RUN_ONLY}
    names = (p.relative_to(path) for p in path.rglob("*") if p.is_file())
    yield from sorted(name.as_posix() for name in names if name.parts[0] not in skipped)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _record_digest(record: Mapping[str, Any]) -> str:
    fields = {key: value for key, value in record.items() if key != "digest"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
