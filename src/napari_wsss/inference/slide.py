"""Segmenting whole slides, block by block, in memory that does not grow with the slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from napari_wsss.inference.cluster import Cluster
from napari_wsss.inference.options import RunOptions, View
from napari_wsss.inference.outputs import SegmentationOutput
from napari_wsss.inference.result import SlideSegmentation
from napari_wsss.inference.run import slide_job
from napari_wsss.jobs import CancelToken, Event, Job, run_job
from napari_wsss.models import WsssModel
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide

__all__ = ["segment_job", "segment_slide"]


def segment_slide(
    slide: Slide,
    model: WsssModel,
    out: str | Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    view: View | None = None,
    live: bool = False,
    cluster: Cluster | None = None,
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
    device, on_event, cancel
        As in `train_classifier`.
    overwrite
        Replace a finished result, or an unfinished one of other inputs. A run that was cut
        off goes on without it, to the same bytes.
    view
        Called before each block: (y, x) of the place on the result to do next, or None.
    live
        Keep the coarser levels of the result up to date while it grows.
    cluster
        Workers of dask.distributed that compute the blocks, see `Cluster`.

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
        As they say; what was finished is kept, and the same call goes on from there.
    """
    options = RunOptions(
        model_mpp=model_mpp,
        device=device,
        overwrite=overwrite,
        view=view,
        live=live,
        cluster=cluster,
    )
    job = segment_job(slide, model, Path(out), settings, options, cancel=cancel)
    return run_job(job, on_event)


def segment_job(
    slide: Slide,
    model: WsssModel,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    options: RunOptions | None = None,
    *,
    cancel: CancelToken | None = None,
) -> Job[SlideSegmentation]:
    """Yield the events of `segment_slide`, which documents the parameters."""
    path = yield from slide_job(
        SegmentationOutput, slide, model, out_dir, settings, options, cancel=cancel
    )
    return SlideSegmentation.open(path)
