"""The state of an unfinished run, beside the model it is going to write.

It is replaced whole after every epoch, so a killed run goes on from its last epoch with
the same numbers as if it had never stopped. It is read with ``weights_only=True``.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch

from napari_wsss.errors import CheckpointError, OutputError
from napari_wsss.files import write_atomic

__all__ = ["load_state", "save_state", "state_path"]


def state_path(out: Path) -> Path:
    """Return where the state of the run that will write `out` is kept."""
    return out.with_name(out.name + ".training")


def save_state(out: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings) for the run of `out`, all or nothing."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(state_path(out), buffer.getvalue())


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
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        same = state["fingerprint"] == fingerprint
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, OSError) as error:
        if overwrite:
            return None
        raise CheckpointError(
            f"{path}, the state of an unfinished run, is damaged ({type(error).__name__}). "
            "Delete it, or begin anew with --overwrite."
        ) from None
    if same:
        return state
    if overwrite:
        return None
    raise OutputError(
        f"{path} belongs to an unfinished run with other patches or settings. Finish that run "
        "with its settings, choose another name, or begin anew with --overwrite."
    )
