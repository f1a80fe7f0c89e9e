"""The work of one block as it travels to a worker, and what a worker does with it.

A worker loads model and slide once, by checksum, reads, computes, and stores the block's chunks,
which no other block shares. A task can be run twice without harm.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path

from napari_wsss.errors import ModelError, SlideError, WsssError
from napari_wsss.inference.blocks import Block, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.journal import Entry
from napari_wsss.inference.outputs import MapsOutput, Output, SegmentationOutput
from napari_wsss.inference.pipeline import Pipeline
from napari_wsss.models import WsssModel, load_model, weights_digest
from napari_wsss.models.device import choose_device, describe_device, resolved_precision
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import PackedTissue, open_slide

__all__ = ["BlockTask", "Place", "place_of", "run_block"]

_LOADING = threading.Lock()
#: The model that this worker read last, by the sha256 of its weights and its description.
_MODELS: dict[tuple[str, str], WsssModel] = {}


@dataclass(frozen=True)
class Place:
    """Where blocks are computed.

    Attributes
    ----------
    device
        To be chosen there: ``"auto"``, ``"cpu"``, ``"cuda"`` ...
    name
        As `describe_device` says, or of several kinds of workers what each says.
    precision
        What the precision of the settings means there, ``"bf16"`` or ``"fp32"``.
    """

    device: str
    name: str
    precision: str


def place_of(device: str, precision: str) -> Place:
    """Return the place that this process is; ModelError if it has no such device."""
    chosen = choose_device(device)
    name = describe_device(chosen, precision)
    return Place(chosen.type, name, resolved_precision(chosen, precision))


@dataclass(frozen=True)
class BlockTask:
    """What a worker needs to know to compute any block of a run.

    Attributes
    ----------
    kind
        Of output.
    slide
        An opened slide file; it travels as its path and is opened anew.
    slide_fingerprint
        Of the slide, so that a worker does not work on another file of that path.
    model
        Path of the checkpoint, `model_sha256` of its weights, and its `model_info` as JSON.
    settings
        As JSON, with the precision of the run, which ``"auto"`` would leave to each worker.
    result
        Folder of the result, its arrays created.
    depth
        Of class maps; None for what the model says by itself.
    tissue
        Where tissue is, which takes longer to find than to send; None if all counts as tissue.
    """

    kind: str
    slide: Path
    mpp: float | None
    name: str
    slide_fingerprint: str
    model: Path
    model_sha256: str
    model_info: str
    settings: str
    model_mpp: float | None
    device: str
    result: Path
    depth: int | None = None
    tissue: PackedTissue | None = None


def run_block(task: BlockTask, block: Block) -> Entry | WsssError:
    """Compute and store one block on a worker; errors of ours come back as values.

    They would be the same wherever they are tried again, unlike those of a machine.
    """
    try:
        with _LOADING:  # threads of one worker share what the first of them loads
            pipeline = _pipeline(task)
        return pipeline.run_one(block)
    except WsssError as error:
        return error


@functools.lru_cache(maxsize=1)
def _pipeline(task: BlockTask) -> Pipeline:
    """Return what computes blocks of `task`, made once per worker and slide."""
    slide = open_slide(task.slide, mpp=task.mpp, name=task.name)
    if slide.fingerprint != task.slide_fingerprint:
        raise SlideError(
            f"{task.slide} is another file on a worker than where the run was started. All "
            "workers must see the same files under the same paths."
        )
    model = _model(task)
    settings = InferenceSettings.model_validate_json(task.settings)
    tissue = None if task.tissue is None else task.tissue.unpacked()
    plan = SlidePlan.of(slide, model, settings, task.model_mpp, tissue)
    output: Output
    if task.kind == MapsOutput.kind:
        output = MapsOutput(model.classes, settings, task.depth)
    else:
        output = SegmentationOutput(model.classes, settings)
    engine = Engine(output.network(model), settings, device=task.device)
    return Pipeline(engine, plan, output, output.open(task.result))


def _model(task: BlockTask) -> WsssModel:
    """Return the model of `task`, read once per worker, however many slides it is for.

    Each run keeps a copy beside its result, so the path does not tell one model from another.
    """
    key = task.model_sha256, task.model_info
    if key not in _MODELS:
        _MODELS.clear()  # a worker's memory is for one
        _pipeline.cache_clear()
        model = load_model(task.model)
        if (weights_digest(model), model.info.model_dump_json()) != key:
            raise ModelError(f"{task.model} holds another model than that of this run.")
        _MODELS[key] = model
    return _MODELS[key]
