"""The state of an unfinished run, beside the model it is going to write.

It is replaced whole after every epoch, so a killed run goes on from its last epoch with
the same numbers as if it had never stopped. The file is the sha256 of the rest, and what
``torch.save`` makes; it is read with ``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from napari_wsss.errors import CheckpointError, OutputError
from napari_wsss.files import write_atomic

__all__ = ["load_state", "read_state", "save_state", "state_path"]

_DIGEST_BYTES = hashlib.sha256().digest_size


def state_path(out: Path) -> Path:
    """Return where the state of the run that will write `out` is kept."""
    return out.with_name(out.name + ".training")


def save_state(out: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings) for the run of `out`, all or nothing."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    # torch notices a cut file but not a flipped bit.
    write_atomic(state_path(out), hashlib.sha256(data).digest() + data)


def load_state(out: Path, fingerprint: str, *, overwrite: bool) -> dict[str, Any] | None:
    """Return the state to go on from, or None to begin anew.

    Raises
    ------
    OutputError
        If an unfinished run with other data or settings is there and `overwrite` is False.
    CheckpointError
        If the state is damaged and `overwrite` is False.
    """
    path = state_path(out)
    if not path.exists():
        return None
    state = read_state(out)
    if state is not None and state["fingerprint"] == fingerprint:
        return state
    if overwrite:
        return None
    if state is None:
        raise CheckpointError(
            f"{path}, the state of an unfinished run, is damaged. Delete it, or begin anew with "
            "--overwrite."
        )
    raise OutputError(
        f"{path} belongs to an unfinished run with other patches or settings. Finish that run "
        "with its settings, choose another name, or begin anew with --overwrite."
    )


def read_state(out: Path) -> dict[str, Any] | None:
    """Return what `save_state` wrote, None if the file is not as it was written."""
    try:
        data = state_path(out).read_bytes()
        body = data[_DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != data[:_DIGEST_BYTES]:
            return None
        state = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError):
        return None
    return state if isinstance(state, dict) and "fingerprint" in state else None
