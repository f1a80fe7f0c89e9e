"""Exports of a stored segmentation with the right scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from napari_wsss.export import export_csv, export_geojson
from napari_wsss.inference import SlideSegmentation

__all__ = ["export_result"]


def export_result(
    result: SlideSegmentation,
    *,
    geojson: Path | None = None,
    csv: Path | None = None,
    min_area_px: float = 0,
    simplify_px: float = 0.0,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write outlines and areas of a result.

    Parameters
    ----------
    result
        A finished segmentation.
    geojson
        ``.geojson`` or ``.geojson.gz``: outlines in level-0 pixels of the slide, for QuPath.
    csv
        Areas per class in pixels and mm², measured at the finest stored level.
    min_area_px, simplify_px
        Outlines: smallest region, and tolerance (pixels of the result).
    overwrite
        Whether existing files may be replaced.

    Returns
    -------
    dict
        ``features`` and ``areas``, as far as they were asked for.

    Raises
    ------
    OutputError, DataError
        If a file cannot be written, or a label chunk cannot be read.
    """
    found: dict[str, Any] = {}
    if geojson is not None:
        found["features"] = export_geojson(
            result.labels,
            geojson,
            result.classes,
            scale=result.downsample,
            mpp_labels=result.mpp,
            min_area_px=min_area_px,
            simplify_px=simplify_px,
            overwrite=overwrite,
        )
    if csv is not None:
        table = export_csv(
            result.labels,
            csv,
            result.classes,
            level0_scale=result.downsample,
            mpp_labels=result.mpp,
            overwrite=overwrite,
        )
        found["areas"] = table.to_dict("records")
    return found
