"""The training loop that both phases share.

Every random number comes from (seed, epoch, step), so a run that is resumed after any
epoch continues with the numbers it would have had.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from napari_wsss.allocator import prepare_process
from napari_wsss.errors import TrainingError
from napari_wsss.files import check_absent, check_writable, write_atomic
from napari_wsss.jobs import CancelToken, EpochEnd, Example, Examples, Job, Log, Progress
from napari_wsss.models import WsssModel, save_model
from napari_wsss.models.base import Trainable
from napari_wsss.models.device import autocast, choose_device, describe_device
from napari_wsss.models.interrupt import interrupting
from napari_wsss.settings import ClassifierSettings, PretrainSettings, SegmenterSettings
from napari_wsss.training.batches import Batch
from napari_wsss.training.group import Group
from napari_wsss.training.optim import factor, make_optimiser, set_training_mode
from napari_wsss.training.state import load_state, save_state, state_path
from napari_wsss.training.teacher import Teacher

__all__ = ["Phase", "Validation", "fingerprint", "fit", "history_path", "step_seed"]

_PRIMES = (1_000_003, 7_919)

TrainingSettings = ClassifierSettings | SegmenterSettings | PretrainSettings
M = TypeVar("M", bound=Trainable)


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
        (model, device) -> what held-out patches say.
    score
        Name of the metric that chooses the epoch.
    patience
        Epochs without a better score before stopping; None never stops early.
    save
        (model, path): writes what the run is for, over what is there.
    teacher
        The average of the weights that is validated and kept instead of the last ones.
    temperature
        (model, device) -> the temperature of the kept weights; None where nothing tells.
    """

    stage: str
    batches: Callable[[int], Iterable[Batch]]
    steps: int
    loss: Callable[[Any, Batch, int, torch.Generator], Tensor]
    validate: Callable[[Any, torch.device], Validation]
    score: str
    patience: int | None = None
    save: Callable[[Any, Path], object] = _write_model
    teacher: Teacher | None = None
    temperature: Callable[[Any, torch.device], float] | None = None


def fit(
    model: M,
    phase: Phase,
    settings: TrainingSettings,
    out: Path,
    *,
    mark: str,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
    group: Group | None = None,
) -> Job[M]:
    """Train `model`, keep the best epoch or the last, and write it to `out`.

    Parameters
    ----------
    model
        Freshly made.
    phase
        Batches, loss and validation.
    settings
        Schedule, seed and precision.
    out
        Checkpoint to write; beside it ``.history.json`` and, while it runs, the state.
    mark
        Fingerprint of data and settings; only an unfinished run with the same is resumed.
    device, overwrite, cancel
        As everywhere.
    group
        The processes that train together; this one alone by default.

    Returns
    -------
    Trainable
        The best epoch (the last one if nothing was held out, or nothing is to choose), with
        its `history`.

    Raises
    ------
    TrainingError
        If the loss is no longer a number.
    CancelledError
        If cancelled; the finished epochs are kept.
    """
    check_absent(out, overwrite)
    check_writable(out)
    prepare_process()
    where = choose_device(device)
    cancel = cancel or CancelToken()
    group = group or Group()
    together = f", in {group.size} processes" if group.size > 1 else ""
    yield Log(f"{phase.stage} on {describe_device(where, settings.precision)}{together}")
    model = model.to(where).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(model, settings.optimiser)
    teacher = phase.teacher
    if teacher is not None:
        teacher.start(model)
    history: list[dict[str, float]] = []
    best, best_weights = -math.inf, None
    state = load_state(out, mark, overwrite=overwrite)
    if state is not None:
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        if teacher is not None:
            teacher.load(state["teacher"])
        history, best, best_weights = state["history"], state["best"], state["best_weights"]
        yield Log(f"Going on after epoch {len(history)} of an unfinished run")
    frozen = settings.optimiser.freeze_batch_norm
    trained = group.wrapped(model, where, sync_norms=not frozen)
    for epoch in range(len(history), settings.epochs):
        if _exhausted(history, phase):
            break
        began = time.perf_counter()
        trained.train()
        set_training_mode(model, frozen)
        total = 0.0
        for step, batch in enumerate(phase.batches(epoch)):
            done = epoch * phase.steps + step
            with interrupting(model, cancel.raise_if_cancelled):
                total += _step(
                    trained, optimiser, phase, settings, batch, epoch, done, where, group
                )
            if teacher is not None:
                teacher.update(model)
            yield Progress(phase.stage, done + 1, settings.epochs * phase.steps)
        model.eval()
        _check_finite(model, phase, epoch)
        judged = model if teacher is None else teacher.model
        metrics = {"loss": group.total(total, where) / phase.steps}
        found = Validation({})
        if group.first:
            with interrupting(judged, cancel.raise_if_cancelled):
                found = phase.validate(judged, where)
            metrics.update(found.metrics)
            metrics["seconds"] = time.perf_counter() - began
        metrics = group.from_first(metrics)
        score = metrics.get(phase.score)
        # Without held-out patches the last epoch is kept.
        better = score is None or score > best
        if better:
            best = -math.inf if score is None else score
            best_weights = copy.deepcopy({k: v.cpu() for k, v in judged.state_dict().items()})
        history.append({**metrics, "best": float(better)})
        if group.first:
            save_state(
                out,
                {
                    "fingerprint": mark,
                    "settings": settings.model_dump(mode="json"),
                    "model": {k: v.cpu() for k, v in model.state_dict().items()},
                    "optimiser": optimiser.state_dict(),
                    "history": history,
                    "best": best,
                    "best_weights": best_weights,
                    **({} if teacher is None else {"teacher": teacher.state()}),
                },
            )
        yield EpochEnd(epoch + 1, settings.epochs, metrics, best=better)
        if found.examples:
            yield Examples(epoch + 1, found.examples)
    if best_weights is not None:
        model.load_state_dict(best_weights)
    kept = next((h for h in reversed(history) if h["best"]), {})
    kept_metrics = {k: v for k, v in kept.items() if k not in ("best", "seconds")}
    model.eval()
    update: dict[str, Any] = {"metrics": kept_metrics}
    if group.first and phase.temperature is not None:
        with interrupting(model, cancel.raise_if_cancelled):
            update["temperature"] = phase.temperature(model, where)
    model = model.to("cpu")
    model.info = model.info.model_copy(update=update)
    model.history = history
    if group.first:
        phase.save(model, out)
        write_atomic(history_path(out), json.dumps(history, indent=1).encode())
        state_path(out).unlink(missing_ok=True)
    return model


def _step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    phase: Phase,
    settings: TrainingSettings,
    batch: Batch,
    epoch: int,
    done: int,
    device: torch.device,
    group: Group,
) -> float:
    """Run one optimisation step and return this process's part of its loss."""
    rate = factor(settings.optimiser, done, settings.epochs * phase.steps)
    for options in optimiser.param_groups:
        options["lr"] = options["base_lr"] * rate
    seed = group.seed(step_seed(settings.seed, done))
    weight = group.weight(len(batch.labels), settings.batch_size)
    on_device = batch.to(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):  # dropout draws from the global generator
        torch.manual_seed(seed)
        with autocast(device, settings.precision):
            generator = torch.Generator().manual_seed(seed)
            loss = phase.loss(model, on_device, epoch, generator)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"{phase.stage}: the loss became {value} in epoch {epoch + 1} (step {done + 1}). "
                "Lower optimiser.encoder_lr and optimiser.head_lr, or set precision = 'fp32'. "
                "The finished epochs are kept."
            )
        optimiser.zero_grad(set_to_none=True)
        (loss * weight).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimiser.clip_norm)
    if not bool(torch.isfinite(norm)):
        raise TrainingError(
            f"{phase.stage}: the gradient is no longer a number in epoch {epoch + 1} "
            f"(step {done + 1}). Lower the learning rates. The finished epochs are kept."
        )
    optimiser.step()
    return value * weight / group.size


def _check_finite(model: Trainable, phase: Phase, epoch: int) -> None:
    """Stop before weights that are no numbers are measured, kept or written."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"{phase.stage}: the weights ({name}) are no longer numbers after epoch "
                f"{epoch + 1}. Lower the learning rates. The finished epochs are kept."
            )


def _exhausted(history: list[dict[str, float]], phase: Phase) -> bool:
    """Whether the last `patience` epochs brought no better score."""
    if phase.patience is None or len(history) <= phase.patience:
        return False
    return not any(h["best"] for h in history[-phase.patience :])


def step_seed(seed: int, step: int) -> int:
    """Return a seed for one step (or epoch) of a run."""
    return (seed * _PRIMES[0] + step * _PRIMES[1] + 17) % (2**31 - 1)


def history_path(out: Path) -> Path:
    """Return the file that holds the curves of the run that wrote `out`."""
    return out.with_name(out.name + ".history.json")


def fingerprint(*parts: object) -> str:
    """Return a digest of what a run depends on."""
    return hashlib.sha256("\n".join(str(p) for p in parts).encode()).hexdigest()
