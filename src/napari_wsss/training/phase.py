"""What the training loop is told of a phase, and what it hears of held-out patches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from napari_wsss.jobs import Example
from napari_wsss.models import WsssModel, save_model
from napari_wsss.training.batches import Batch
from napari_wsss.training.teacher import Teacher

__all__ = ["Phase", "Validation"]


class Validation(NamedTuple):
    """What held-out patches say of an epoch.

    Attributes
    ----------
    metrics
        Scalars by name; none if nothing is held out.
    examples
        A few of the patches to look at.
    """

    metrics: dict[str, float]
    examples: tuple[Example, ...] = ()


def _write_model(model: WsssModel, out: Path) -> None:
    save_model(model, out, overwrite=True)


@dataclass(frozen=True)
class Phase:
    """What differs between the phases, and pretraining.

    Attributes
    ----------
    stage
        Name shown with the progress.
    batches
        Epoch -> its batches.
    steps
        Batches per epoch.
    loss
        (model, images 0..1, batch on the device, epoch, generator) -> scalar.
    validate
        (model, device) -> what held-out patches say; None if nothing is held out.
    score
        Name of the metric that chooses the epoch.
    patience
        Epochs without a better score before stopping; None never stops early.
    save
        (model, path): writes what the run is for, over what is there.
    teacher
        The average of the weights that is validated and kept instead of the last ones.
    calibrate
        (model, device) -> the temperature of the kept weights; it may change what the model
        makes of them. None where nothing tells.
    """

    stage: str
    batches: Callable[[int], Iterable[Batch]]
    steps: int
    loss: Callable[[Any, Batch, int, torch.Generator], Tensor]
    validate: Callable[[Any, torch.device], Validation] | None
    score: str
    patience: int | None = None
    save: Callable[[Any, Path], object] = _write_model
    teacher: Teacher | None = None
    calibrate: Callable[[Any, torch.device], float] | None = None
