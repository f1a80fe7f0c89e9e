"""Phase 2: train the segmentation network, from pseudo masks or from true masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from napari_wsss.errors import DataError, listed
from napari_wsss.files import check_absent
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.models import Segmenter, WsssModel
from napari_wsss.patches import PatchSet, check_trainable_job
from napari_wsss.patches.overlaps import Overlaps
from napari_wsss.settings import SegmenterSettings
from napari_wsss.training.augment import augment
from napari_wsss.training.batches import Batch, PatchLoader, draw
from napari_wsss.training.calibration import held_out_temperature
from napari_wsss.training.gate_offsets import gate_offsets, shift_gate
from napari_wsss.training.goal import Goal, relabels
from napari_wsss.training.group import Group
from napari_wsss.training.held_out import segment_held_out
from napari_wsss.training.known import KnownPixels
from napari_wsss.training.loop import fingerprint, fit, step_seed
from napari_wsss.training.mixing import mixed
from napari_wsss.training.phase import Phase, Validation
from napari_wsss.training.processes import check_processes, run_training
from napari_wsss.training.split import hold_out, make_info
from napari_wsss.training.start import start
from napari_wsss.training.targets import (
    ForTeacher,
    MixedTargets,
    Targets,
    TrueMasks,
    exact_targets,
    leaves_out_uncertain,
    with_corrections,
)
from napari_wsss.training.teacher import Teacher
from napari_wsss.training.unlabelled import check_unlabelled, mixed_order, with_tiles

__all__ = [
    "check_targets",
    "segmenter_job",
    "segmenter_mark",
    "train_segmenter",
]


def train_segmenter(
    patches: PatchSet,
    targets: Targets,
    out: str | Path,
    settings: SegmenterSettings | None = None,
    *,
    corrections: PatchSet | None = None,
    unlabelled: PatchSet | None = None,
    device: str = "auto",
    overwrite: bool = False,
    processes: int = 1,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> Segmenter:
    """Train the segmentation network and write it to `out`.

    The second phase of Han et al. 2022 (section 3.3): cross-entropy against the pseudo
    masks of every depth, weighted 0.6 / 0.2 / 0.2, and a class head on the same encoder
    for the gate. With `TrueMasks` the same trainer gives the fully supervised comparison.

    Parameters
    ----------
    patches
        Patches (H, W, 3) with labels (N, K).
    targets
        `PseudoMasks` or `TrueMasks` of these patches.
    out
        Checkpoint (``.safetensors``); an unfinished run of the same inputs is resumed.
    settings
        Defaults to `SegmenterSettings()`.
    corrections
        Corrected patches with masks (see `read_corrections`) that are trained on too, by
        their true masks.
    unlabelled
        Tiles without labels (see `read_unlabelled`) that are learnt from the mean teacher's
        labels; the settings must have one (``teacher.relabel_from``).
    device, overwrite, processes, on_event, cancel
        As in `train_classifier`. The decoder's batch norms use the statistics of one
        process's share of a batch, on CUDA those of all.

    Returns
    -------
    Segmenter
        The last epoch or, by the setting ``choose_by = "targets"``, the one with the best mean
        IoU *against the same kind of targets* on held-out patches: a weakly supervised run never
        sees a true mask but those of `corrections`.

    Raises
    ------
    DataError
        If masks are missing or of another size than their image.
    TrainingError, OutputError, ModelError, CancelledError
        As they say.
    """
    job = segmenter_job(
        patches,
        targets,
        Path(out),
        settings,
        corrections=corrections,
        unlabelled=unlabelled,
        device=device,
        overwrite=overwrite,
        processes=processes,
        cancel=cancel,
    )
    return run_job(job, on_event)


def segmenter_job(
    patches: PatchSet,
    targets: Targets,
    out: Path,
    settings: SegmenterSettings | None = None,
    *,
    corrections: PatchSet | None = None,
    unlabelled: PatchSet | None = None,
    device: str = "auto",
    overwrite: bool = False,
    processes: int = 1,
    cancel: CancelToken | None = None,
) -> Job[Segmenter]:
    """Yield the events of `train_segmenter`, which documents the parameters."""
    settings = settings or SegmenterSettings()
    check_processes(processes, settings.batch_size, device)
    check_absent(out, overwrite)
    cancel = cancel or CancelToken()
    if corrections is not None:
        if isinstance(targets, MixedTargets):
            raise DataError("These targets have corrections already; join the sets of both.")
        check_targets(patches, targets, settings)
        patches, targets = with_corrections(patches, targets, corrections)
    check_targets(patches, targets, settings)
    check_unlabelled(unlabelled, settings)
    checked = replace(patches, masks=None)  # true masks are not even opened
    if isinstance(targets, TrueMasks):
        checked = replace(targets.patches, labels=patches.labels)
    yield from check_trainable_job(checked, cancel=cancel)
    work = {
        "patches": patches,
        "targets": targets,
        "out": out,
        "settings": settings,
        "tiles": unlabelled,
        "overwrite": overwrite,
    }
    model = yield from run_training(
        _train, work, out=out, processes=processes, device=device, cancel=cancel
    )
    assert isinstance(model, Segmenter)
    return model


def _train(
    patches: PatchSet,
    targets: Targets,
    out: Path,
    settings: SegmenterSettings,
    tiles: PatchSet | None,
    *,
    device: str,
    overwrite: bool,
    group: Group,
    cancel: CancelToken,
) -> Job[WsssModel]:
    """Yield the events of the training, as one process of a group."""
    weights = _depth_weights(settings, targets.depths)
    train, held, notes = hold_out(patches, settings)
    yield from notes
    info = make_info("segmenter", patches, settings, settings.architecture, targets.supervision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Segmenter(info)
    yield from start(model, train, targets, settings)
    loader, with_known = _loader(train, targets, tiles, settings)
    steps = settings.steps(len(train))
    teacher = Teacher(settings.teacher.decay) if settings.teacher.decay > 0 else None
    keeps = settings.teacher.keep_certain and leaves_out_uncertain(targets)
    goal = Goal(settings, weights, teacher, keeps)
    count = f"{len(train)} patches" + ("" if held is None else f", {len(held)} held out")
    count += f", and {len(tiles)} unlabelled tiles" if tiles else ""
    yield Log(f"Training the segmenter from {targets.supervision} on {count}")
    validate = calibrate = None
    if held is not None:
        validate = partial(_held_out_scores, PatchLoader(held, targets), settings.precision)
        # A gate that learns nothing removes nothing, and must not begin to.
        fitted = settings.calibrate_gate and settings.gate_weight > 0
        calibrate = partial(_calibrate, train if fitted else None, held)
    phase = Phase(
        f"Segmenter ({targets.supervision})",
        _Batches(loader, train, settings, steps, group),
        steps,
        partial(_loss, goal, settings, with_known),
        validate,
        {"targets": "target_miou", "labels": "label_f1", "last": ""}[settings.choose_by],
        teacher=teacher,
        calibrate=calibrate,
    )
    return (
        yield from fit(
            model,
            phase,
            settings,
            out,
            mark=segmenter_mark(patches, targets, settings, tiles),
            device=device,
            overwrite=overwrite,
            cancel=cancel,
            group=group,
        )
    )


def _calibrate(
    train: PatchSet | None, held: PatchSet, model: Segmenter, device: torch.device
) -> float:
    """Return the temperature that held-out labels ask for; with `train` shift the gate, too."""
    if train is not None:
        shift_gate(model, gate_offsets(model, train, held, device))
    return held_out_temperature(held, model, device)


def _loader(
    train: PatchSet, targets: Targets, tiles: PatchSet | None, settings: SegmenterSettings
) -> tuple[PatchLoader, bool]:
    """Return what reads patches, targets and tiles, and whether known pixels come last of all."""
    exact = exact_targets(train, targets)
    relabelled = settings.teacher.relabel_from < 1 and not exact.all()
    marked = relabelled and settings.teacher.label_uncertain
    mine = ForTeacher(targets) if marked else targets
    every, source = with_tiles(train, mine, targets.depths, tiles)
    trusted = np.concatenate([exact, np.zeros(len(every) - len(train), bool)])
    if relabelled and settings.overlaps:
        overlaps = Overlaps(train)
        if overlaps.pairs:
            return PatchLoader(every, KnownPixels(overlaps, source), trusted), True
    return PatchLoader(every, source, trusted), False


@dataclass(frozen=True)
class _Batches:
    """The batches of each epoch: of `train`, and of the tiles that `loader` has behind it."""

    loader: PatchLoader
    train: PatchSet
    settings: SegmenterSettings
    steps: int
    group: Group

    def __call__(self, epoch: int) -> Iterator[Batch]:
        settings, n = self.settings, len(self.train)
        n_tiles = len(self.loader.patches) - n
        seed = step_seed(settings.seed, epoch)
        order = draw(self.train.labels, settings.batch_size, self.steps, settings.balance, seed)
        if n_tiles and relabels(settings, epoch):
            order = mixed_order(order, n, n_tiles, settings.teacher.unlabelled_share, seed)
        return self.loader.batches(self.group.part(order))


def _loss(
    goal: Goal,
    settings: SegmenterSettings,
    with_known: bool,
    model: Segmenter,
    batch: Batch,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of a batch."""
    images, masks = augment(batch.images / 255, batch.targets, settings.augmentation, generator)
    assert masks is not None
    batch = batch._replace(targets=masks)
    if with_known:
        batch = batch._replace(targets=masks[:, :-1], known=masks[:, -1])
    return goal.loss(model, *mixed(images, batch, settings.mosaic_share, generator), epoch)


def _held_out_scores(
    loader: PatchLoader, precision: str, model: Segmenter, device: torch.device
) -> Validation:
    """Return how held-out patches are segmented."""
    return segment_held_out(model, loader, device, precision)


def segmenter_mark(
    patches: PatchSet,
    targets: Targets,
    settings: SegmenterSettings,
    tiles: PatchSet | None = None,
) -> str:
    """Return the fingerprint of a run; an unfinished one with the same is gone on with."""
    more = () if tiles is None else (tiles.fingerprint,)
    return fingerprint(
        "segmenter", patches.fingerprint, targets.fingerprint, settings.model_dump_json(), *more
    )


def check_targets(patches: PatchSet, targets: Targets, settings: SegmenterSettings) -> None:
    """Refuse targets that do not belong to `patches` or `settings`, without opening any.

    Raises
    ------
    DataError
        If they are of other classes, have another number of depths than there are weights,
        or patches have none; all of these are listed.
    """
    if targets.classes.names != patches.classes.names:
        raise DataError(
            f"The masks are of the classes {', '.join(targets.classes.names)}; the patches have "
            f"{', '.join(patches.classes.names)}. They must be the same, in the same order."
        )
    _depth_weights(settings, targets.depths)
    if isinstance(targets, MixedTargets):  # they have the patches that were corrected
        others = [i for i, name in enumerate(patches.names) if not targets.true.has(name)]
        check_targets(patches.subset(others), targets.base, settings)
        return
    if isinstance(targets, TrueMasks):
        return
    missing = [name for name in patches.names if not targets.has(name)]
    if missing:
        raise DataError(
            f"{targets.folder} has no pseudo masks of {len(missing)} patches. Make the pseudo "
            f"masks from the same patch set. Missing are:{listed(missing)}"
        )


def _depth_weights(settings: SegmenterSettings, depths: int) -> tuple[float, ...]:
    """Return the settings' weights; one mask per patch needs no weighting."""
    if depths == 1:
        return (1.0,)
    if len(settings.depth_weights) != depths:
        raise DataError(
            f"The pseudo masks have {depths} depths but depth_weights has "
            f"{len(settings.depth_weights)} numbers; give one per depth, shallow to deep."
        )
    return settings.depth_weights
