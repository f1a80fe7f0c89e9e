"""Measuring a model on images with masks, under both protocols."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, ModelError, listed
from napari_wsss.evaluation import (
    ConfusionMatrix,
    Evaluation,
    Reliability,
    ReliabilityCounts,
)
from napari_wsss.inference import BlockPrediction, Engine, image_logits
from napari_wsss.inference.gate import allowed_by_labels
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.models import WsssModel
from napari_wsss.models.device import describe_device
from napari_wsss.patches.images import read_size
from napari_wsss.patches.pairs import Pair, match_pairs, read_pair
from napari_wsss.settings import EvaluationSettings, InferenceSettings
from napari_wsss.slides import ResampledSlide, open_slide

__all__ = ["evaluate", "evaluate_job", "matched", "predict_image"]

Files = str | Path | Sequence[str | Path]


def evaluate(
    model: WsssModel,
    images: Files,
    masks: Files,
    classes: ClassTable | None = None,
    settings: EvaluationSettings | None = None,
    inference: InferenceSettings | None = None,
    *,
    mpp: float | None = None,
    device: str = "auto",
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Measure `model` against true masks.

    Protocol *predicted gate* knows nothing but the image; *oracle labels* is given which
    classes occur in each window of a training patch's size. They are reported apart.

    Parameters
    ----------
    model
        A `Segmenter`, or a `Classifier` for the CAM-only result.
    images, masks
        Folders (or lists) of files of the same names; masks (H, W) of the images' size.
    classes
        The masks' values; by default the model's class table. Names must be the model's.
    settings, inference
        Default to `EvaluationSettings()` and `InferenceSettings()`. Tissue is not masked:
        every labelled pixel counts.
    mpp
        µm/px of the images; they are resampled to the model's. By default they are taken to
        be at the model's µm/px.
    device, on_event, cancel
        As in `train_classifier`.

    Returns
    -------
    Evaluation
        Metrics from one confusion matrix per protocol, with bootstrap intervals over images,
        and how far uncertainty and probabilities can be trusted (with the predicted gate).

    Raises
    ------
    DataError
        Listing all images that cannot be used.
    ModelError
        If the classes are not the model's.
    """
    job = evaluate_job(
        model,
        images,
        masks,
        classes,
        settings,
        inference,
        mpp=mpp,
        device=device,
        cancel=cancel,
    )
    return run_job(job, on_event)


def evaluate_job(
    model: WsssModel,
    images: Files,
    masks: Files,
    classes: ClassTable | None = None,
    settings: EvaluationSettings | None = None,
    inference: InferenceSettings | None = None,
    *,
    mpp: float | None = None,
    device: str = "auto",
    cancel: CancelToken | None = None,
) -> Job[Evaluation]:
    """Yield the events of `evaluate`, which documents the parameters."""
    settings = settings or EvaluationSettings()
    cancel = cancel or CancelToken()
    classes = _checked_classes(model, classes)
    pairs = matched(images, masks)
    engine = Engine(model, inference, device=device, flips=settings.flips)
    size_px = model.info.patch_size_px
    yield Log(f"Evaluating {len(pairs)} images on {describe_device(engine.device)}")
    if mpp is None:
        known = "unknown µm/px" if model.mpp is None else f"{model.mpp:g} µm/px"
        yield Log(f"The images are taken to be at the model's resolution ({known})")
    tally = _Tally(classes)
    for done, pair in enumerate(pairs, 1):
        cancel.raise_if_cancelled()
        image, values = read_pair(pair)
        truth = tally.truth(values)
        prediction = predict_image(engine, image, size_px, model.mpp, mpp)
        window = _window(size_px, model.mpp, mpp)
        oracle = allowed_by_labels(truth, len(classes), window, settings.min_share)
        tally.add(truth, prediction, oracle)
        yield Progress("Evaluation", done, len(pairs))
    if tally.unlisted:
        text = ", ".join(f"{v} ({n} px)" for v, n in sorted(tally.unlisted.items()))
        yield Log(
            f"Mask values that are neither a class nor ignored were left out: {text}", "warning"
        )
    return Evaluation.from_counts(
        {name: np.stack(rows) for name, rows in tally.counts.items()},
        classes,
        conditions=_conditions(model, engine, settings, mpp, len(pairs)),
        reliability=Reliability.from_counts(
            tally.reliability,
            temperature=model.info.temperature,
            bootstrap=settings.bootstrap,
            seed=settings.seed,
        ),
        bootstrap=settings.bootstrap,
        seed=settings.seed,
    )


class _Tally:
    """What the images add up to: a confusion matrix per protocol and image, and more."""

    def __init__(self, classes: ClassTable):
        self._classes = classes
        self.counts: dict[str, list[NDArray[np.int64]]] = {
            "predicted_gate": [],
            "oracle_labels": [],
        }
        self.reliability: list[ReliabilityCounts] = []
        self.unlisted: Counter[int] = Counter()

    def truth(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the classes of a mask, and count the values that are none."""
        self.unlisted.update(self._classes.unlisted(values))
        return self._classes.to_indices(values)

    def add(
        self, truth: NDArray[np.uint8], prediction: BlockPrediction, oracle: NDArray[np.bool_]
    ) -> None:
        """Count the pixels of an image; `oracle` is what its true labels allow where."""
        for name, allowed in (("predicted_gate", None), ("oracle_labels", oracle)):
            matrix = ConfusionMatrix(len(self._classes))
            matrix.update(truth, prediction.labels(allowed))
            self.counts[name].append(matrix.counts)
        self.reliability.append(_reliability(truth, prediction))


def _conditions(
    model: WsssModel,
    engine: Engine,
    settings: EvaluationSettings,
    mpp: float | None,
    images: int,
) -> dict[str, Any]:
    """Return under what conditions a model was measured."""
    return {
        "model": model.info.kind,
        "supervision": model.info.supervision,
        "encoder": model.info.encoder.name,
        "images": images,
        "mpp": mpp if mpp is not None else model.mpp,
        "gate": engine.settings.gate,
        "gate_threshold": engine.settings.gate_threshold,
        "gate_windows": engine.settings.gate_windows,
        "window_px": model.info.patch_size_px,
        "min_share": settings.min_share,
        "test_time_flips": settings.flips,
        "device": describe_device(engine.device, engine.settings.precision),
    }


def _reliability(truth: NDArray[np.uint8], prediction: BlockPrediction) -> ReliabilityCounts:
    """Return what an image says of the uncertainty layer, and of probabilities after the gate."""
    labels = prediction.labels()
    p = np.take_along_axis(prediction.probabilities(), labels[None].astype(np.int64), 0)[0]
    return ReliabilityCounts().update(truth, labels, prediction.uncertainty(), p)


def matched(images: Files, masks: Files) -> list[Pair]:
    """Return images with their masks; DataError lists every pair that does not fit."""
    pairs, problems = match_pairs(images, masks)
    for pair in pairs:
        try:
            sizes = read_size(pair.image), read_size(pair.mask)
        except DataError as error:
            problems.append(str(error))
            continue
        if sizes[0] != sizes[1]:
            (h, w), (mh, mw) = sizes
            problems.append(f"{pair.mask}: {mw} x {mh} px, but its image has {w} x {h} px")
    if problems:
        raise DataError(f"Images and masks do not fit together:{listed(problems)}")
    if not pairs:
        raise DataError("There are no images to evaluate.")
    return pairs


def predict_image(
    engine: Engine,
    image: NDArray[np.uint8],
    patch_size_px: int,
    model_mpp: float | None,
    mpp: float | None = None,
) -> BlockPrediction:
    """Predict an image (H, W, 3) on its own pixel grid.

    With `mpp` the image is resampled to the model's µm/px, and the logits back.
    """
    if mpp is None:
        return image_logits(engine, image, patch_size_px)
    if model_mpp is None:
        raise ModelError(
            "The model does not say at how many µm/px it was trained, so images of a known "
            "µm/px cannot be fitted to it. Leave out --mpp if both are the same."
        )
    grid = ResampledSlide(open_slide(image, mpp=mpp), model_mpp)
    small = image_logits(engine, grid.read(0, 0, *grid.shape), patch_size_px)
    size = image.shape[:2]
    logits = _resized(small.logits, size, "bilinear")
    if small.allowed is None:
        return BlockPrediction(logits, None, temperature=small.temperature)
    allowed = _resized(small.allowed.astype(np.float32), size, "nearest") > 0.5
    return BlockPrediction(logits, allowed, temperature=small.temperature)


def _resized(values: NDArray[np.float32], size: tuple[int, ...], mode: str) -> NDArray[np.float32]:
    options = {"align_corners": False} if mode == "bilinear" else {}
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None]
    resized = torch.nn.functional.interpolate(tensor, size=size, mode=mode, **options)
    return resized[0].numpy()


def _window(patch_size_px: int, model_mpp: float | None, mpp: float | None) -> int:
    """Return the side of a training patch in pixels of the images."""
    if mpp is None or model_mpp is None:
        return patch_size_px
    return max(1, round(patch_size_px * model_mpp / mpp))


def _checked_classes(model: WsssModel, classes: ClassTable | None) -> ClassTable:
    if classes is None:
        classes = model.classes
        if not classes.has_values:
            raise ModelError(
                "The model was trained without mask values, so masks cannot be read with its "
                "class table. Name one with --classes."
            )
        return classes
    if classes.names != model.classes.names:
        raise ModelError(
            f"The model knows {', '.join(model.classes.names)}; the class table has "
            f"{', '.join(classes.names)}. They must be the same, in the same order."
        )
    return classes
