"""What the segment panel does in threads: looking at its inputs, segmenting, exporting."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Job, Log, Progress
from napari_wsss.panels.support.helper import apart
from napari_wsss.panels.support.layer_slide import slide_of
from napari_wsss.panels.support.live import warm_up
from napari_wsss.panels.support.loaded import loaded_model
from napari_wsss.panels.support.on_slide import on_slide
from napari_wsss.settings import InferenceSettings

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsss.inference import RunStatus
    from napari_wsss.models import ModelInfo
    from napari_wsss.slides import Slide

__all__ = [
    "EXPORTS",
    "ExportKind",
    "Inputs",
    "Look",
    "export_job",
    "look_job",
    "prepare_job",
    "run_job",
]

ExportKind = Literal["geojson", "csv", "picture"]
#: What the files of each export end with.
EXPORTS: dict[ExportKind, str] = {"geojson": ".geojson", "csv": ".csv", "picture": ".png"}


@dataclass(frozen=True)
class Inputs:
    """What the panel says.

    Attributes
    ----------
    layer
        Of a slide that `slide_problem` finds nothing wrong with; None if there is none.
    mpp, model_mpp
        µm/px as given by the user, None if they were not asked.
    model
        Checkpoint file.
    folder
        Of results.
    settings, device
        As of `segment_slide`.
    """

    layer: Layer | None
    mpp: float | None
    model: Path | None
    model_mpp: float | None
    folder: Path
    settings: InferenceSettings
    device: str


@dataclass(frozen=True)
class Look:
    """What was found out about the inputs; the problems are sentences for the user.

    Attributes
    ----------
    slide_mpp
        µm/px that slide or user say; None if neither does.
    info
        Of the model.
    status
        Of the result; None while something is missing.
    """

    slide_mpp: float | None = None
    slide_problem: str | None = None
    info: ModelInfo | None = None
    model_problem: str | None = None
    status: RunStatus | None = None
    place_problem: str | None = None


def look_job(inputs: Inputs, cancel: CancelToken) -> Job[Look]:
    """Find out what the model is and what is in the folder already; writes nothing.

    Yields progress between its steps, which take up to a few seconds.
    """
    yield Progress("Looking", 0, 3)
    warm_up()
    told = replace(inputs, layer=None)
    if inputs.layer is None:
        return (yield from apart(_look, None, told, cancel=cancel))
    try:
        slide = slide_of(inputs.layer, inputs.mpp)
    except WsssError as error:
        look = yield from apart(_look, None, told, cancel=cancel)
        return replace(look, slide_problem=str(error))
    yield Progress("Looking", 1, 3)
    with slide:
        return (yield from on_slide(slide, _look, told, cancel=cancel))


def _look(slide: Slide | None, inputs: Inputs, *, cancel: CancelToken) -> Job[Look]:
    """Look at the model, and at what is in the folder of the slide, if there is one."""
    from napari_wsss.inference import run_status

    look = Look(slide_mpp=None if slide is None else slide.mpp)
    if inputs.model is None:
        return look
    yield Progress("Looking", 2, 3)
    try:
        model = loaded_model(inputs.model)
    except WsssError as error:
        return replace(look, model_problem=str(error))
    look = replace(look, info=model.info)
    if slide is None or slide.mpp is None or (model.mpp or inputs.model_mpp) is None:
        return look
    cancel.raise_if_cancelled()
    try:
        status = run_status(
            slide,
            model,
            inputs.folder,
            inputs.settings,
            model_mpp=_asked(model.mpp, inputs.model_mpp),
            device=inputs.device,
        )
    except WsssError as error:
        return replace(look, place_problem=str(error))
    return replace(look, status=status)


def prepare_job(inputs: Inputs, cancel: CancelToken) -> Job[None]:
    """Let the helper process do what the first block of a run would wait for.

    Where the run will not be computed there, there is nothing to prepare.
    """
    yield Log("Preparing")
    if inputs.layer is None or inputs.model is None:
        return
    with slide_of(inputs.layer, inputs.mpp) as slide:
        if slide.path is not None:
            told = replace(inputs, layer=None)
            yield from on_slide(slide, _prepare, told, cancel=cancel)


def _prepare(slide: Slide, inputs: Inputs, *, cancel: CancelToken) -> Job[None]:
    """Find the tissue, which is kept, and run the network once, which loads what it needs."""
    from napari_wsss.inference import Engine
    from napari_wsss.slides import tissue_mask

    assert inputs.model is not None
    yield Log("Preparing the network")
    model = loaded_model(inputs.model)
    cancel.raise_if_cancelled()
    Engine(model, inputs.settings, device=inputs.device, cancel=cancel)
    yield Log("Looking for tissue")
    cancel.raise_if_cancelled()
    if inputs.settings.tissue_only:
        tissue_mask(slide)


def run_job(
    inputs: Inputs,
    centre: Callable[[], tuple[float, float] | None],
    overwrite: bool,
    cancel: CancelToken,
) -> Job[Path]:
    """Segment the slide of a layer.

    Parameters
    ----------
    inputs
        With layer and model.
    centre
        Says where the user looks, (y, x) in level-0 pixels of the slide; called in the thread.
    overwrite
        Replace what is in the way.
    cancel
        Stops it.

    Returns
    -------
    Path
        ``NAME.ome.zarr``.
    """
    if inputs.layer is None or inputs.model is None:
        raise WsssError("Choose a slide and a model first.")
    yield Log("Opening the slide")
    told = replace(inputs, layer=None), overwrite
    with slide_of(inputs.layer, inputs.mpp) as slide:
        return (yield from on_slide(slide, _segment, *told, view=centre, cancel=cancel))


def _segment(
    slide: Slide,
    inputs: Inputs,
    overwrite: bool,
    *,
    view: Callable[[], tuple[float, float] | None],
    cancel: CancelToken,
) -> Job[Path]:
    from napari_wsss.inference import RunOptions, segment_job

    assert inputs.model is not None
    model = loaded_model(inputs.model)
    cancel.raise_if_cancelled("Nothing was written.")
    mpp = model.mpp or inputs.model_mpp
    factor = mpp / slide.mpp if mpp and slide.mpp else 1.0

    def on_result() -> tuple[float, float] | None:
        found = view()
        return None if found is None else (found[0] / factor, found[1] / factor)

    options = RunOptions(
        model_mpp=_asked(model.mpp, inputs.model_mpp),
        device=inputs.device,
        overwrite=overwrite,
        view=on_result,
        live=True,
    )
    result = yield from segment_job(
        slide, model, inputs.folder, inputs.settings, options, cancel=cancel
    )
    return result.path


def export_job(
    path: Path, kind: ExportKind, layer: Layer | None, mpp: float | None, cancel: CancelToken
) -> Job[Path]:
    """Export a result beside itself, never over a file that is there.

    Parameters
    ----------
    path
        ``NAME.ome.zarr``.
    kind
        What to write.
    layer
        The picture shows the slide of this layer, if the result is of it.
    mpp
        µm/px of that layer, if the user gave it.
    cancel
        Stops it.

    Returns
    -------
    Path
        The file that was written.
    """
    from napari_wsss import workflows
    from napari_wsss.inference import SlideSegmentation

    result = SlideSegmentation.open(path)
    file = _free(path.with_name(path.name.removesuffix(".ome.zarr") + EXPORTS[kind]))
    if kind != "picture" or layer is None:
        yield from workflows.export_job(
            result,
            geojson=file if kind == "geojson" else None,
            csv=file if kind == "csv" else None,
            picture=file if kind == "picture" else None,
            cancel=cancel,
        )
        return file
    with closing(slide_of(layer, mpp)) as slide:
        same = slide.was(result.run["slide"]["fingerprint"])
        below = slide if same else None
        yield from workflows.export_job(result, picture=file, slide=below, cancel=cancel)
    return file


def _asked(own: float | None, given: float | None) -> float | None:
    """Return what the user gave, unless the model says it itself."""
    return given if own is None else None


def _free(path: Path) -> Path:
    """Return `path`, or with the first number behind its name that no file has."""
    number, found = 2, path
    while found.exists():
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return found
