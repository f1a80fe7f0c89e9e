"""The classifier's class activation maps over a whole slide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.inference.cluster import Cluster
from napari_wsss.inference.outputs import MapsOutput
from napari_wsss.inference.result import read_run
from napari_wsss.inference.run import View, slide_job
from napari_wsss.jobs import CancelToken, Event, Job, run_job
from napari_wsss.models import Classifier
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide

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
        """Return plain data: shape, µm/px, mean evidence per class, and blocks."""
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
    view: View | None = None,
    live: bool = False,
    cluster: Cluster | None = None,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> SlideMaps:
    """Write the classifier's CAMs of a slide as ``<out>/<slide.name>-maps.ome.zarr``.

    Parameters
    ----------
    slide, settings, model_mpp, device, overwrite, view, live, cluster, on_event, cancel
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
        view=view,
        live=live,
        cluster=cluster,
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
    view: View | None = None,
    live: bool = False,
    cluster: Cluster | None = None,
    cancel: CancelToken | None = None,
) -> Job[SlideMaps]:
    """Yield the events of `map_slide`, which documents the parameters."""
    path = yield from slide_job(
        MapsOutput,
        slide,
        classifier,
        out_dir,
        settings,
        model_mpp=model_mpp,
        device=device,
        overwrite=overwrite,
        view=view,
        live=live,
        cluster=cluster,
        cancel=cancel,
    )
    return SlideMaps.open(path)
