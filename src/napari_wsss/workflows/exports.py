"""Exports of a stored segmentation with the right scale."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss.export import export_csv, export_geojson, export_picture
from napari_wsss.export.picture import overview_job, picture_level
from napari_wsss.inference import SlideSegmentation
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.slides import Slide

__all__ = ["export_job", "export_result"]

_NOTHING = "Files that were finished before are kept."


def export_result(
    result: SlideSegmentation,
    *,
    geojson: Path | None = None,
    csv: Path | None = None,
    picture: Path | None = None,
    slide: Slide | None = None,
    min_area_px: float = 0,
    simplify_px: float = 0.0,
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Write outlines, areas and a picture of a result.

    Parameters
    ----------
    result
        A finished segmentation.
    geojson
        ``.geojson`` or ``.geojson.gz``: outlines in level-0 pixels of the slide, for QuPath.
    csv
        Areas per class in pixels and mm², measured at the finest stored level.
    picture
        ``.png``: the segmentation with legend and scale bar.
    slide
        Shown below the colours of the picture; white without one.
    min_area_px, simplify_px
        Outlines: smallest region, and tolerance (pixels of the result).
    overwrite
        Whether existing files may be replaced.
    on_event, cancel
        As in `train_classifier`.

    Returns
    -------
    dict
        ``features`` (how many), ``areas`` (rows) and ``picture_px`` (height and width), as
        far as they were asked for.

    Raises
    ------
    OutputError, DataError, SlideError, CancelledError
        If a file cannot be written, a label chunk or the slide cannot be read, or the job was
        cancelled.
    """
    job = export_job(
        result,
        geojson=geojson,
        csv=csv,
        picture=picture,
        slide=slide,
        min_area_px=min_area_px,
        simplify_px=simplify_px,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def export_job(
    result: SlideSegmentation,
    *,
    geojson: Path | None = None,
    csv: Path | None = None,
    picture: Path | None = None,
    slide: Slide | None = None,
    min_area_px: float = 0,
    simplify_px: float = 0.0,
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[dict[str, Any]]:
    """Yield the events of `export_result`, which documents the parameters."""
    cancel = cancel or CancelToken()
    labels = _Cancellable(result.labels, cancel)
    found: dict[str, Any] = {}
    if geojson is not None:
        yield Log(f"Tracing outlines for {geojson.name}")
        found["features"] = export_geojson(
            labels,
            geojson,
            result.classes,
            scale=result.downsample,
            mpp_labels=result.mpp,
            min_area_px=min_area_px,
            simplify_px=simplify_px,
            overwrite=overwrite,
        )
    if csv is not None:
        yield Log(f"Counting areas for {csv.name}")
        table = export_csv(
            labels,
            csv,
            result.classes,
            level0_scale=result.downsample,
            mpp_labels=result.mpp,
            overwrite=overwrite,
        )
        found["areas"] = table.to_dict("records")
    if picture is not None:
        yield Log(f"Drawing {picture.name}")
        found["picture_px"] = yield from _picture(result, picture, slide, overwrite, cancel)
    return found


def _picture(
    result: SlideSegmentation,
    path: Path,
    slide: Slide | None,
    overwrite: bool,
    cancel: CancelToken,
) -> Job[tuple[int, int]]:
    levels = result.levels
    index = picture_level(levels)
    labels = np.asarray(levels[index][:])
    image = None
    if slide is not None:
        downsample = math.sqrt(math.prod(result.downsample)) * 2**index
        height, width = labels.shape
        image = yield from overview_job(slide, downsample, (height, width), cancel=cancel)
    areas = result.summary()["classes"]
    if result.mpp is not None:  # it may have been replaced since
        areas = [{**row, "area_mm2": row["pixels"] * result.mpp**2 * 1e-6} for row in areas]
    return export_picture(
        labels,
        path,
        result.classes,
        image=image,
        mpp=None if result.mpp is None else result.mpp * 2**index,
        areas=areas,
        title=result.path.name.removesuffix(".ome.zarr"),
        overwrite=overwrite,
    )


class _Cancellable:
    """Labels that stop whoever reads them, block by block, when the job is cancelled."""

    def __init__(self, labels: Any, cancel: CancelToken) -> None:
        self._labels, self._cancel = labels, cancel
        self.shape: tuple[int, ...] = labels.shape
        self.dtype = labels.dtype

    def __getitem__(self, key: Any) -> Any:
        self._cancel.raise_if_cancelled(_NOTHING)
        return self._labels[key]
