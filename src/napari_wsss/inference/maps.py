"""The classifier's class activation maps over a whole slide."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.inference.blocks import CHUNK_PX, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.predict import predict_block
from napari_wsss.inference.result import (
    NOT_COMPUTED,
    UNFINISHED,
    make_room,
    read_run,
    result_path,
    write_run,
)
from napari_wsss.inference.slide import run_record
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.models import Classifier
from napari_wsss.models.device import describe_device
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide, create_pyramid

__all__ = ["SlideMaps", "map_job", "map_slide"]


@dataclass(frozen=True, eq=False)
class SlideMaps:
    """Stored class maps of one slide.

    Attributes
    ----------
    path
        The ``.ome.zarr`` folder.
    maps
        (K, H, W) uint8, lazy: class evidence, 127 where the classifier is undecided, up to
        254; 0 outside tissue, 255 not computed.
    classes
        Names and colours of the channels.
    run
        What ``run.json`` says.
    """

    path: Path
    maps: zarr.Array
    classes: ClassTable
    run: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a result; SlideError if there is none, or it was not finished."""
        path = Path(path)
        run = read_run(path)
        if not run.get("complete") or run.get("kind") != "maps":
            raise SlideError(f"{path} holds no finished class maps.")
        classes = ClassTable.from_dict(run["model"]["classes"], str(path))
        return cls(path, zarr.open_array(str(path / "0"), mode="r"), classes, run)

    def summary(self) -> dict[str, Any]:
        """Return plain data: shape, µm/px, mean evidence per class, blocks and time."""
        return dict(self.run["summary"])


def map_slide(
    slide: Slide,
    classifier: Classifier,
    out: str | Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> SlideMaps:
    """Write the classifier's CAMs of a slide as ``<out>/<slide.name>-maps.ome.zarr``.

    Parameters
    ----------
    slide, settings, model_mpp, device, overwrite, on_event, cancel
        As in `segment_slide`.
    classifier
        Its (fused) class maps are made by one forward pass per block.
    out
        Folder of results.

    Returns
    -------
    SlideMaps
        (K, H', W') uint8: the sigmoid of each class's CAM logit, times 254.

    Raises
    ------
    MissingResolutionError, SlideError, ModelError, OutputError, CancelledError
        As they say.
    """
    job = map_job(
        slide,
        classifier,
        Path(out),
        settings,
        model_mpp=model_mpp,
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def map_job(
    slide: Slide,
    classifier: Classifier,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[SlideMaps]:
    """Yield the events of `map_slide`, which documents the parameters."""
    settings = settings or InferenceSettings()
    cancel = cancel or CancelToken()
    began = time.perf_counter()
    plan = SlidePlan.of(slide, classifier, settings, model_mpp)
    path = result_path(out_dir, f"{slide.name}-maps")
    make_room(path, overwrite)
    record = run_record("maps", slide, classifier, settings, plan)
    classes = classifier.classes
    pyramid = create_pyramid(
        path,
        (len(classes), *plan.shape),
        axes=("c", "y", "x"),
        mpp=plan.grid.mpp,
        chunk=CHUNK_PX,
        fill_value=NOT_COMPUTED,
        name=f"{slide.name} class maps",
        translation_px=plan.translation_px,
        channel_names=classes.names,
        channel_colors=[c.color for c in classes.classes],
    )
    write_run(path, record)
    engine = Engine(classifier, settings, device=device)
    source = plan.source
    blocks = list(plan.blocks())
    yield Log(
        f"Mapping {slide.name}: {plan.shape[1]} x {plan.shape[0]} px in {len(blocks)} blocks on "
        f"{describe_device(engine.device)}"
    )
    sums, pixels = np.zeros(len(classes)), 0
    for done, block in enumerate(blocks, 1):
        cancel.raise_if_cancelled(UNFINISHED)
        at = (block.y, block.x, block.height, block.width)
        stored = np.zeros((len(classes), *at[2:]), np.uint8)
        if block.tissue:
            logits = torch.from_numpy(predict_block(engine, source, *at, None).logits)
            evidence = torch.sigmoid(logits).numpy()
            tissue = plan.tissue_in(*at)
            stored = (np.round(evidence * 254) * tissue).astype(np.uint8)
            sums += evidence[:, tissue].sum(1)
            pixels += int(tissue.sum())
        pyramid.write(block.y, block.x, stored)
        yield BlockDone(*at)
        yield Progress("Maps", done, len(blocks))
    for done, total in pyramid.build_steps("mean", ignore=(NOT_COMPUTED,)):
        cancel.raise_if_cancelled(UNFINISHED)
        yield Progress("Pyramid", done, total)
    summary = {
        "shape": list(plan.shape),
        "mpp": plan.grid.mpp,
        "mean_evidence": {
            name: float(total / max(pixels, 1))
            for name, total in zip(classes.names, sums, strict=True)
        },
        "blocks": len(blocks),
        "skipped_blocks": sum(not b.tissue for b in blocks),
        "seconds": round(time.perf_counter() - began, 3),
    }
    write_run(path, {**record, "summary": summary, "complete": True})
    return SlideMaps.open(path)
