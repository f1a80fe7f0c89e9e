"""What earlier runs left where a model shall be written: a finished model, an unfinished run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from napari_wsss.errors import CheckpointError, SettingsError
from napari_wsss.models.info import ModelInfo
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

__all__ = ["EarlierRun", "earlier_run"]

S = TypeVar("S", ClassifierSettings, SegmenterSettings)


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run that writes, or wrote, to `out`.

    Attributes
    ----------
    out
        Checkpoint file of the run.
    unfinished
        Whether it can be gone on with; else it wrote its model.
    history
        Metrics of every epoch, as `napari_wsss.models.WsssModel.history`.
    settings
        What it was started with; None if another version of this program wrote it.
    mark
        Fingerprint of its data and settings; None for a finished run.
    info
        Header of the model; None for an unfinished run.
    """

    out: Path
    unfinished: bool
    history: tuple[dict[str, float], ...]
    settings: ClassifierSettings | SegmenterSettings | None
    mark: str | None = None
    info: ModelInfo | None = None


def earlier_run(out: Path, model: type[S]) -> EarlierRun | None:
    """Look for an earlier run at `out`; an unfinished one goes before what it will replace.

    Parameters
    ----------
    out
        Where a model shall be written.
    model
        The settings model of its kind.

    Returns
    -------
    EarlierRun or None
        None if nothing is there.

    Raises
    ------
    CheckpointError
        If something else is there: a damaged state, or a file that is no model.
    """
    # Here, so that what was found can be handed to a process without torch.
    from napari_wsss.models import read_info
    from napari_wsss.training.state import read_state, state_path

    if state_path(out).exists():
        state = read_state(out)
        if state is None:
            raise CheckpointError(
                f"{state_path(out)}, the state of an unfinished run, is damaged and cannot be "
                "gone on with."
            )
        settings = _settings(state.get("settings"), model)
        history = tuple(state["history"])
        return EarlierRun(out, True, history, settings, mark=state["fingerprint"])
    if not out.exists():
        return None
    info = read_info(out)
    return EarlierRun(out, False, _history(out), _settings(info.training, model), info=info)


def _settings(data: Any, model: type[S]) -> S | None:
    try:
        return model.from_dict(data)
    except SettingsError:
        return None


def _history(out: Path) -> tuple[dict[str, float], ...]:
    """Return the curves beside a model; none if they are gone, or of another program."""
    from napari_wsss.training.loop import history_path

    try:
        rows = json.loads(history_path(out).read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return ()
    return tuple(rows)
