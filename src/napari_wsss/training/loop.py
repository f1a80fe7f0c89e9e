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
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from napari_wsss.allocator import prepare_process
from napari_wsss.errors import TrainingError
from napari_wsss.files import check_absent, check_writable, write_atomic
from napari_wsss.jobs import CancelToken, EpochEnd, Examples, Job, Log, Progress
from napari_wsss.models.base import Trainable
from napari_wsss.models.device import autocast, choose_device, describe_device
from napari_wsss.models.interrupt import interrupting
from napari_wsss.settings import ClassifierSettings, PretrainSettings, SegmenterSettings
from napari_wsss.training.batches import Batch
from napari_wsss.training.dilated import with_quick_dilation, without_quick_dilation
from napari_wsss.training.group import Group
from napari_wsss.training.optim import factor, make_optimiser, set_training_mode
from napari_wsss.training.phase import Phase, Validation
from napari_wsss.training.state import load_state, save_state, state_path

__all__ = ["fingerprint", "fit", "history_path", "step_seed"]

_PRIMES = (1_000_003, 7_919)

TrainingSettings = ClassifierSettings | SegmenterSettings | PretrainSettings
M = TypeVar("M", bound=Trainable)


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
    training = _Training(model, phase, settings, where, group, cancel)
    state = load_state(out, mark, overwrite=overwrite)
    training.begin(state)
    history = training.history
    if state is not None:
        yield Log(f"Going on after epoch {len(history)} of an unfinished run")
    for epoch in range(len(history), settings.epochs):
        if _exhausted(history, phase):
            break
        began = time.perf_counter()
        loss = yield from training.train(epoch)
        found, metrics = training.judge(epoch, loss, began)
        better = training.keep(metrics)
        if group.first:
            save_state(out, {"fingerprint": mark, **training.state()})
        yield EpochEnd(epoch + 1, settings.epochs, metrics, best=better)
        if found.examples:
            yield Examples(epoch + 1, found.examples)
    model = training.finish()
    if group.first:
        phase.save(model, out)
        write_atomic(history_path(out), json.dumps(history, indent=1).encode())
        state_path(out).unlink(missing_ok=True)
    return model


class _Training(Generic[M]):
    """A model in training: what its epochs share, and what of them is kept."""

    def __init__(
        self,
        model: M,
        phase: Phase,
        settings: TrainingSettings,
        device: torch.device,
        group: Group,
        cancel: CancelToken,
    ):
        self.phase, self.settings = phase, settings
        self.device, self.group, self.cancel = device, group, cancel
        self.model = model.to(device).to(memory_format=torch.channels_last)
        if device.type == "cpu":
            with_quick_dilation(self.model)
        self.trained: nn.Module = self.model  # `begin` wraps it, where several processes train
        self.optimiser = make_optimiser(self.model, settings.optimiser)
        if phase.teacher is not None:
            phase.teacher.start(self.model)
        self.history: list[dict[str, float]] = []
        self.best = -math.inf
        self.best_weights: dict[str, Tensor] | None = None

    @property
    def judged(self) -> Any:
        """The network that is validated and kept: the average of the weights, if there is one."""
        return self.model if self.phase.teacher is None else self.phase.teacher.model

    def begin(self, state: Mapping[str, Any] | None) -> None:
        """Get ready to train, from `state` if an unfinished run left one."""
        if state is not None:
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            if self.phase.teacher is not None:
                self.phase.teacher.load(state["teacher"])
            self.history, self.best = state["history"], state["best"]
            self.best_weights = state["best_weights"]
        frozen = self.settings.optimiser.freeze_batch_norm
        self.trained = self.group.wrapped(self.model, self.device, sync_norms=not frozen)

    def state(self) -> dict[str, Any]:
        """Return what `begin` needs to go on after the last epoch."""
        teacher = self.phase.teacher
        return {
            "settings": self.settings.model_dump(mode="json"),
            "model": {k: v.cpu() for k, v in self.model.state_dict().items()},
            "optimiser": self.optimiser.state_dict(),
            "history": self.history,
            "best": self.best,
            "best_weights": self.best_weights,
            **({} if teacher is None else {"teacher": teacher.state()}),
        }

    def train(self, epoch: int) -> Job[float]:
        """Yield the progress of an epoch; returns this process's part of its loss."""
        phase, settings = self.phase, self.settings
        self.trained.train()
        set_training_mode(self.model, settings.optimiser.freeze_batch_norm)
        total = 0.0
        for step, batch in enumerate(phase.batches(epoch)):
            done = epoch * phase.steps + step
            with interrupting(self.model, self.cancel.raise_if_cancelled):
                total += self._step(batch, epoch, done)
            if phase.teacher is not None:
                phase.teacher.update(self.model)
            yield Progress(phase.stage, done + 1, settings.epochs * phase.steps)
        self.model.eval()
        self._check_finite(epoch)
        return total

    def judge(self, epoch: int, loss: float, began: float) -> tuple[Validation, dict[str, float]]:
        """Return what held-out patches say, and the metrics of the epoch for all processes."""
        metrics = {"loss": self.group.total(loss, self.device) / self.phase.steps}
        found = Validation({})
        if self.group.first:
            with interrupting(self.judged, self.cancel.raise_if_cancelled):
                if self.phase.validate is not None:
                    found = self.phase.validate(self.judged, self.device)
            metrics.update(found.metrics)
            metrics["seconds"] = time.perf_counter() - began
        return found, self.group.from_first(metrics)

    def keep(self, metrics: Mapping[str, float]) -> bool:
        """Note the metrics of an epoch, and its weights if they are the best; whether they are."""
        score = metrics.get(self.phase.score)
        # Without held-out patches the last epoch is kept.
        better = score is None or score > self.best
        if better:
            self.best = -math.inf if score is None else score
            weights = {k: v.cpu() for k, v in self.judged.state_dict().items()}
            self.best_weights = copy.deepcopy(weights)
        self.history.append({**metrics, "best": float(better)})
        return better

    def finish(self) -> M:
        """Return the model with the weights that were kept, and what is known of them."""
        if self.best_weights is not None:
            self.model.load_state_dict(self.best_weights)
        without_quick_dilation(self.model)
        kept = next((h for h in reversed(self.history) if h["best"]), {})
        kept_metrics = {k: v for k, v in kept.items() if k not in ("best", "seconds")}
        self.model.eval()
        update: dict[str, Any] = {"metrics": kept_metrics}
        if self.group.first and self.phase.calibrate is not None:
            with interrupting(self.model, self.cancel.raise_if_cancelled):
                update["temperature"] = self.phase.calibrate(self.model, self.device)
        model = self.model.to("cpu")
        model.info = model.info.model_copy(update=update)
        model.history = self.history
        return model

    def _step(self, batch: Batch, epoch: int, done: int) -> float:
        """Run one optimisation step and return this process's part of its loss."""
        phase, settings, device = self.phase, self.settings, self.device
        rate = factor(settings.optimiser, done, settings.epochs * phase.steps)
        for options in self.optimiser.param_groups:
            options["lr"] = options["base_lr"] * rate
        seed = self.group.seed(step_seed(settings.seed, done))
        weight = self.group.weight(len(batch.labels), settings.batch_size)
        on_device = batch.to(device)
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):  # dropout draws from the global generator
            torch.manual_seed(seed)
            with autocast(device, settings.precision):
                generator = torch.Generator().manual_seed(seed)
                loss = phase.loss(self.trained, on_device, epoch, generator)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"{phase.stage}: the loss became {value} in epoch {epoch + 1} (step "
                    f"{done + 1}). Lower optimiser.encoder_lr and optimiser.head_lr, or set "
                    "precision = 'fp32'. The finished epochs are kept."
                )
            self.optimiser.zero_grad(set_to_none=True)
            (loss * weight).backward()
        clip = settings.optimiser.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.trained.parameters(), clip)
        if not bool(torch.isfinite(norm)):
            raise TrainingError(
                f"{phase.stage}: the gradient is no longer a number in epoch {epoch + 1} "
                f"(step {done + 1}). Lower the learning rates. The finished epochs are kept."
            )
        self.optimiser.step()
        return value * weight / self.group.size

    def _check_finite(self, epoch: int) -> None:
        """Stop before weights that are no numbers are measured, kept or written."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise TrainingError(
                    f"{self.phase.stage}: the weights ({name}) are no longer numbers after epoch "
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
