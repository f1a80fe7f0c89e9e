"""Phase 1: train the multi-label patch classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.cams import supports_gradcam
from napari_wsss.evaluation.multilabel import multilabel_scores
from napari_wsss.files import check_absent
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.models import Classifier, WsssModel
from napari_wsss.models.classifier import ClassifierOutput
from napari_wsss.models.device import autocast
from napari_wsss.patches import PatchSet, check_trainable_job
from napari_wsss.patches.overlaps import Overlaps, overlaps_said
from napari_wsss.settings import ClassifierSettings, PDASettings
from napari_wsss.training.augment import augment
from napari_wsss.training.batches import Batch, PatchLoader, draw
from napari_wsss.training.calibration import held_out_temperature
from napari_wsss.training.group import Group
from napari_wsss.training.known import KnownPixels
from napari_wsss.training.loop import fingerprint, fit, step_seed
from napari_wsss.training.mosaic import draw_pairs, has_pairs, with_mosaics
from napari_wsss.training.partial_labels import partial_label_loss
from napari_wsss.training.phase import Phase, Validation
from napari_wsss.training.processes import check_processes, run_training
from napari_wsss.training.split import hold_out, make_info

__all__ = ["classifier_job", "classifier_mark", "heads_loss", "pda_mu", "train_classifier"]

VALIDATION_BATCH = 32


def train_classifier(
    patches: PatchSet,
    out: str | Path,
    settings: ClassifierSettings | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    processes: int = 1,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> Classifier:
    """Train a classifier on patch labels and write it to `out`.

    The first phase of Han et al. 2022 (section 3.1): multi-label soft-margin loss with
    Progressive Dropout Attention. Masks are never read.

    Parameters
    ----------
    patches
        Patches (H, W, 3) with labels (N, K).
    out
        Checkpoint (``.safetensors``); an unfinished run of the same data and settings is
        resumed.
    settings
        Defaults to `ClassifierSettings()`.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"`` ...
    overwrite
        Whether an existing checkpoint, or an unfinished run with other settings, may be
        replaced.
    processes
        Processes of this machine that share every batch; on CUDA each takes a GPU. The
        gradient is that of the whole batch, but for the joint head's batch norms, which use
        the statistics of one process's share (on CUDA those of all); augmentation draws other
        random numbers than one process does. They also resume each other's runs.
    on_event
        Called with progress and the metrics of each epoch.
    cancel
        Stops the run at the next step; finished epochs are kept.

    Returns
    -------
    Classifier
        Of the last epoch, or of that with the best mean average precision on held-out patch
        labels, as the settings say.

    Raises
    ------
    DataError
        If the set cannot be trained on; all reasons are listed.
    TrainingError, OutputError, ModelError, CancelledError
        As they say.
    """
    job = classifier_job(
        patches,
        Path(out),
        settings,
        device=device,
        overwrite=overwrite,
        processes=processes,
        cancel=cancel,
    )
    return run_job(job, on_event)


def classifier_job(
    patches: PatchSet,
    out: Path,
    settings: ClassifierSettings | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    processes: int = 1,
    cancel: CancelToken | None = None,
) -> Job[Classifier]:
    """Yield the events of `train_classifier`, which documents the parameters."""
    settings = settings or ClassifierSettings()
    check_processes(processes, settings.batch_size, device)
    check_absent(out, overwrite)
    cancel = cancel or CancelToken()
    # Masks are not even opened.
    found = yield from check_trainable_job(replace(patches, masks=None), cancel=cancel)
    for problem in found.problems:  # what is weak about the set, and what to label next
        yield Log(problem.message, "warning" if problem.severity == "warning" else "info")
    work = {"patches": patches, "out": out, "settings": settings, "overwrite": overwrite}
    model = yield from run_training(
        _train, work, out=out, processes=processes, device=device, cancel=cancel
    )
    assert isinstance(model, Classifier)
    return model


def _train(
    patches: PatchSet,
    out: Path,
    settings: ClassifierSettings,
    *,
    device: str,
    overwrite: bool,
    group: Group,
    cancel: CancelToken,
) -> Job[WsssModel]:
    """Yield the events of the training, as one process of a group."""
    train, held, notes = hold_out(patches, settings)
    yield from notes
    info = make_info("classifier", patches, settings, settings.architecture, "patch labels")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = Classifier(info)
    if not (model.deep_supervision or model.joint) and not supports_gradcam(model):
        yield Log(
            f"Encoder {settings.encoder.name!r} gives no Grad-CAM at several depths. To make "
            "pseudo masks, train with deep_supervision = true, or with depths = [-1].",
            "warning",
        )
    loader = yield from _loader(train, model, settings)
    mosaics = yield from _mosaics_per_batch(train, model, settings)
    steps = settings.steps(len(train))
    count = f"{len(train)} patches" + ("" if held is None else f", {len(held)} held out")
    yield Log(f"Training the classifier on {count}")
    validate = calibrate = None
    if held is not None:
        validate = partial(_held_out_scores, PatchLoader(held), settings.precision)
        calibrate = partial(held_out_temperature, held)
    phase = Phase(
        "Classifier",
        _Batches(loader, settings, steps, mosaics, group),
        steps,
        partial(_loss, settings),
        validate,
        "map" if settings.choose_by == "labels" else "",
        settings.patience,
        calibrate=calibrate,
    )
    return (
        yield from fit(
            model,
            phase,
            settings,
            out,
            mark=classifier_mark(patches, settings),
            device=device,
            overwrite=overwrite,
            cancel=cancel,
            group=group,
        )
    )


def _loader(train: PatchSet, model: Classifier, settings: ClassifierSettings) -> Job[PatchLoader]:
    """Return what reads the patches, with the pixels that are known if they are learnt from."""
    if settings.overlaps and model.joint is not None and settings.joint_loss == "pixels":
        overlaps = Overlaps(train)
        if overlaps.pairs:
            yield from overlaps_said(overlaps)
            return PatchLoader(train, KnownPixels(overlaps))
    return PatchLoader(train)


def _mosaics_per_batch(
    train: PatchSet, model: Classifier, settings: ClassifierSettings
) -> Job[int]:
    """Return how many patches of a batch are put together of two."""
    mosaics = round(settings.mosaic_share * settings.batch_size)
    if mosaics and not (model.joint and has_pairs(train.labels)):
        yield Log(
            "No patches are put together: that needs joint_head = true and patches with one "
            "label of at least two classes",
            "warning",
        )
        return 0
    return mosaics


@dataclass(frozen=True)
class _Batches:
    """The batches of each epoch; the last `mosaics` patches of one are put together of two."""

    loader: PatchLoader
    settings: ClassifierSettings
    steps: int
    mosaics: int
    group: Group

    def __call__(self, epoch: int) -> Iterator[Batch]:
        settings, group, mosaics = self.settings, self.group, self.mosaics
        labels = self.loader.patches.labels
        seed = step_seed(settings.seed, epoch)
        order = draw(labels, settings.batch_size - mosaics, self.steps, settings.balance, seed)
        plain = group.part(order)
        if not mosaics:
            yield from self.loader.batches(plain)
            return
        # From the other end, so that no process is left without a patch.
        pairs = [
            [i for pair in step[group.size - 1 - group.rank :: group.size] for i in pair]
            for step in draw_pairs(labels, mosaics, self.steps, seed)
        ]
        generator = torch.Generator().manual_seed(group.seed(seed))
        together = [[*one, *two] for one, two in zip(plain, pairs, strict=True)]
        for batch, one in zip(self.loader.batches(together), plain, strict=True):
            yield with_mosaics(batch, len(one), generator)


def _loss(
    settings: ClassifierSettings,
    model: Classifier,
    batch: Batch,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    """Return the loss of a batch."""
    images, masks = augment(batch.images / 255, batch.targets, settings.augmentation, generator)
    found = model(images, mu=pda_mu(settings.pda, epoch))
    return heads_loss(found, batch.labels, settings, masks)


def _held_out_scores(
    loader: PatchLoader, precision: str, model: Classifier, device: torch.device
) -> Validation:
    """Return how well the classes of held-out patches are named."""
    held = loader.patches
    probabilities = predict_labels(model, loader, device, precision)
    found = multilabel_scores(held.labels, probabilities, held.classes.names)
    metrics = {"exact_match": found.exact_match}
    if not math.isnan(found.mean_ap):
        metrics["map"] = found.mean_ap
    metrics.update({f"ap {k}": v for k, v in found.ap.items() if v is not None})
    return Validation(metrics)


def heads_loss(
    found: ClassifierOutput,
    labels: Tensor,
    settings: ClassifierSettings,
    masks: Tensor | None = None,
) -> Tensor:
    """Return the loss of all heads against patch labels.

    Parameters
    ----------
    found
        What the heads say of N images.
    labels
        (N, K): 1 where the class is present.
    settings
        What the joint head learns, if there is one.
    masks
        (N, 1, H, W) classes of pixels that are known, 255 elsewhere; for 'pixels'.

    Returns
    -------
    Tensor
        Scalar: the mean over the heads of the multi-label soft-margin loss of their pooled
        maps, and where the joint head learns from pixels, its loss besides.
    """
    pooled = [logits.float() for logits in found.logits]
    by_pixels = found.joint is not None and settings.joint_loss == "pixels"
    if found.joint is not None and not by_pixels:
        pooled.append(found.joint.mean((2, 3)))
    loss = torch.stack([F.multilabel_soft_margin_loss(one, labels) for one in pooled]).mean()
    if found.joint is None or not by_pixels:
        return loss
    return loss + partial_label_loss(found.joint, labels, settings.found_weight, masks)


def classifier_mark(patches: PatchSet, settings: ClassifierSettings) -> str:
    """Return the fingerprint of a run; an unfinished one with the same is gone on with."""
    return fingerprint("classifier", patches.fingerprint, settings.model_dump_json())


def pda_mu(settings: PDASettings, epoch: int) -> float | None:
    """Return the cut-off mu of Progressive Dropout Attention in `epoch` (from 0), or None.

    None for the first ``warmup_epochs``; then mu starts at sigma and decays by sigma per
    epoch down to ``lower``.
    """
    if not settings.enabled or epoch < settings.warmup_epochs:
        return None
    return max(settings.sigma ** (epoch - settings.warmup_epochs + 1), settings.lower)


@torch.inference_mode()
def predict_labels(
    model: Classifier, loader: PatchLoader, device: torch.device, precision: str
) -> NDArray[np.float32]:
    """Return class probabilities (N, K) of the deepest head for the patches of `loader`."""
    n = len(loader.patches)
    order = [list(range(i, min(i + VALIDATION_BATCH, n))) for i in range(0, n, VALIDATION_BATCH)]
    rows = []
    for batch in loader.batches(order):
        with autocast(device, precision):
            logits = model(batch.images.to(device) / 255).logits[-1]
        rows.append(torch.sigmoid(logits.float()).cpu())
    return torch.cat(rows).numpy()
