"""Segmenting whole slides, block by block, in memory that does not grow with the slide."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss import __version__
from napari_wsss.inference.blocks import CHUNK_PX, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.gate import GateGrid
from napari_wsss.inference.predict import predict_block
from napari_wsss.inference.result import (
    NOT_COMPUTED,
    UNFINISHED,
    SlideSegmentation,
    class_shares,
    make_room,
    result_path,
    write_run,
)
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.models import WsssModel
from napari_wsss.models.device import describe_device
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide, create_labels, create_pyramid, create_store

__all__ = ["model_digest", "run_record", "segment_job", "segment_slide"]


def segment_slide(
    slide: Slide,
    model: WsssModel,
    out: str | Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> SlideSegmentation:
    """Segment a slide and write ``<out>/<slide.name>.ome.zarr``.

    The slide is resampled to the model's µm/px and worked through in blocks; each is read
    with the network's halo, gated on a global grid of windows (Han et al. 2022, section
    3.3, with absent classes removed before the arg-max), and stored.

    Parameters
    ----------
    slide
        Levels (H, W, 3) uint8 with known µm/px.
    model
        A `Segmenter`, or a `Classifier` for the CAM-only result.
    out
        Folder of results.
    settings
        Defaults to `InferenceSettings()`.
    model_mpp
        µm/px of the model where its checkpoint does not say.
    device, overwrite, on_event, cancel
        As in `train_classifier`.

    Returns
    -------
    SlideSegmentation
        Labels (H', W') uint8 at the model's µm/px: class index + 1, 0 background; and
        the uncertainty: entropy over its largest value, times 254.

    Raises
    ------
    MissingResolutionError
        If the µm/px of slide or model is unknown.
    SlideError, ModelError, OutputError, CancelledError
        As they say; an unfinished result is marked as such.
    """
    job = segment_job(
        slide,
        model,
        Path(out),
        settings,
        model_mpp=model_mpp,
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def segment_job(
    slide: Slide,
    model: WsssModel,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[SlideSegmentation]:
    """Yield the events of `segment_slide`, which documents the parameters."""
    settings = settings or InferenceSettings()
    cancel = cancel or CancelToken()
    began = time.perf_counter()
    plan = SlidePlan.of(slide, model, settings, model_mpp)
    path = result_path(out_dir, slide.name)
    make_room(path, overwrite)
    record = run_record("segmentation", slide, model, settings, plan)
    root = create_store(path)
    write_run(path, record)
    place: dict[str, Any] = {
        "mpp": plan.grid.mpp,
        "chunk": CHUNK_PX,
        "translation_px": plan.translation_px,
    }
    uncertainty = create_pyramid(
        root, plan.shape, name=f"{slide.name} uncertainty", fill_value=NOT_COMPUTED, **place
    )
    labels = create_labels(root, "segmentation", plan.shape, classes=model.classes, **place)
    engine = Engine(model, settings, device=device)
    gate = GateGrid.of(model.info.patch_size_px, plan.shape) if settings.gate else None
    source = plan.source
    counts = np.zeros(256, np.int64)
    blocks = list(plan.blocks())
    yield Log(
        f"Segmenting {slide.name}: {plan.shape[1]} x {plan.shape[0]} px in {len(blocks)} blocks, "
        f"{sum(b.tissue for b in blocks)} with tissue, on {describe_device(engine.device)}"
    )
    for done, block in enumerate(blocks, 1):
        cancel.raise_if_cancelled(UNFINISHED)
        at = (block.y, block.x, block.height, block.width)
        stored = np.zeros(at[2:], np.uint8)
        doubt = np.zeros(at[2:], np.uint8)
        if block.tissue:
            prediction = predict_block(engine, source, *at, gate)
            tissue = plan.tissue_in(*at)
            stored[tissue] = prediction.labels()[tissue] + 1
            doubt[tissue] = np.round(prediction.uncertainty()[tissue] * 254).astype(np.uint8)
        labels.write(block.y, block.x, stored)
        uncertainty.write(block.y, block.x, doubt)
        counts += np.bincount(stored.reshape(-1), minlength=256)
        yield BlockDone(*at)
        yield Progress("Segmentation", done, len(blocks))
    for pyramid, method in ((labels, "mode"), (uncertainty, "mean")):
        steps = pyramid.build_steps(method, ignore=(NOT_COMPUTED,))  # type: ignore[arg-type]
        for done, total in steps:
            cancel.raise_if_cancelled(UNFINISHED)
            yield Progress("Pyramid", done, total)
    seconds = time.perf_counter() - began
    mpp = plan.grid.mpp
    summary = {
        "shape": list(plan.shape),
        "mpp": mpp,
        "classes": class_shares(counts, model.classes, None if mpp is None else mpp**2 * 1e-6),
        "blocks": len(blocks),
        "skipped_blocks": sum(not b.tissue for b in blocks),
        "seconds": round(seconds, 3),
        "megapixels_per_second": round(plan.shape[0] * plan.shape[1] / 1e6 / seconds, 4),
    }
    write_run(path, {**record, "summary": summary, "complete": True})
    return SlideSegmentation.open(path)


def run_record(
    kind: str, slide: Slide, model: WsssModel, settings: InferenceSettings, plan: SlidePlan
) -> dict[str, Any]:
    """Return what a run is determined by, not yet complete."""
    return {
        "kind": kind,
        "complete": False,
        "version": __version__,
        "slide": {
            "name": slide.name,
            "shape": list(slide.shape),
            "mpp": slide.mpp,
            "fingerprint": slide.fingerprint,
        },
        "model": {"sha256": model_digest(model), **model.info.model_dump(mode="json")},
        "settings": settings.model_dump(mode="json"),
        "shape": list(plan.shape),
        "downsample": [float(d) for d in plan.grid.downsample],
    }


def model_digest(model: WsssModel) -> str:
    """Return the sha256 of a model's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
