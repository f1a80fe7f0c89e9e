"""What a training panel does beside the viewer: looking at its inputs, and training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from napari_wsss.errors import CheckpointError, DataError
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.panels.support.helper import apart
from napari_wsss.patches import PatchSet, Problem, load_patches
from napari_wsss.patches.readiness import training_problems

if TYPE_CHECKING:
    from napari_wsss.training.earlier import EarlierRun

__all__ = ["Look", "Training", "device_job", "load_job", "look_job", "train_job"]


class Training(Protocol):
    """One training with all that its panel chose besides data set, file and settings.

    It is sent to another process, in which its methods import torch and open what they need.
    """

    def check(self, patches: PatchSet, settings: Any) -> None:
        """Raise DataError if the inputs do not fit together."""
        ...

    def mark(self, patches: PatchSet, settings: Any) -> str:
        """Return the fingerprint of the run."""
        ...

    def job(
        self,
        patches: PatchSet,
        out: Path,
        settings: Any,
        *,
        device: str,
        overwrite: bool,
        cancel: CancelToken,
    ) -> Job[Any]:
        """Return the job."""
        ...


@dataclass(frozen=True)
class Look:
    """What was found.

    Attributes
    ----------
    problems
        Of data set and inputs; errors keep training from being begun.
    run
        The earlier run at the output file, if there is one.
    same_data
        Whether that run, if unfinished, can be gone on with on these data.
    obstacle
        Why the output file cannot be written: something else is there.
    """

    problems: tuple[Problem, ...]
    run: EarlierRun | None = None
    same_data: bool = False
    obstacle: str | None = None

    @property
    def errors(self) -> tuple[str, ...]:
        """Messages of the problems that keep training from being begun."""
        return tuple(p.message for p in self.problems if p.severity == "error")


def look_job(
    training: Training, patches: PatchSet, settings: Any, out: Path | None, cancel: CancelToken
) -> Job[Look]:
    """Yield progress; returns the `Look`."""
    return (
        yield from apart(_look, training, patches, settings, out, cancel=cancel, compute=False)
    )


def _look(
    training: Training,
    patches: PatchSet,
    settings: Any,
    out: Path | None,
    *,
    cancel: CancelToken,
) -> Job[Look]:
    yield Progress("look", 0, 1)
    problems = training_problems(patches, settings)
    try:
        training.check(patches, settings)
    except DataError as error:
        problems.insert(0, Problem("error", str(error)))
    # torch takes seconds to load, and is not needed where nothing is.
    if out is None or not any(out.parent.glob(f"{escape(out.name)}*")):
        return Look(tuple(problems))
    from napari_wsss.training.earlier import earlier_run

    try:
        run = earlier_run(out, type(settings))
    except CheckpointError as error:
        return Look(tuple(problems), obstacle=f"{error} Choose another name.")
    found = Look(tuple(problems), run)
    if run is None or not run.unfinished or run.settings is None or found.errors:
        return found
    return replace(found, same_data=training.mark(patches, run.settings) == run.mark)


def train_job(
    training: Training,
    patches: PatchSet,
    out: Path,
    settings: Any,
    device: str,
    overwrite: bool,
    cancel: CancelToken,
) -> Job[None]:
    """Train; the parameters are those of `Training.job`."""
    inputs = training, patches, out, settings, device, overwrite
    yield from apart(_train, *inputs, cancel=cancel)


def _train(
    training: Training,
    patches: PatchSet,
    out: Path,
    settings: Any,
    device: str,
    overwrite: bool,
    *,
    cancel: CancelToken,
) -> Job[None]:
    # The model is in its file; a panel needs no more than to know that.
    yield from training.job(
        patches, out, settings, device=device, overwrite=overwrite, cancel=cancel
    )


def load_job(path: Path) -> Job[PatchSet]:
    """Yield progress; returns the patch set at `path`."""
    yield Progress("load", 0, 1)
    return load_patches(path)


def device_job(name: str, precision: str, cancel: CancelToken) -> Job[str]:
    """Yield progress; returns a line on the device that computes, and in which precision."""
    # Draws the curves; loaded here, the first of them does not hold up the viewer.
    import matplotlib.backends.backend_agg  # noqa: F401

    return (yield from apart(_device, name, precision, cancel=cancel))


def _device(name: str, precision: str, *, cancel: CancelToken) -> Job[str]:
    yield Progress("device", 0, 1)
    from napari_wsss.models.device import choose_device, describe_device

    return describe_device(choose_device(name), precision)
