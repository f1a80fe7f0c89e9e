"""The classifier's class activation maps over a whole slide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.inference.cluster import Cluster
from napari_wsss.inference.options import RunOptions, View
from napari_wsss.inference.outputs import MapsOutput
from napari_wsss.inference.result import read_run, result_path
from napari_wsss.inference.run import slide_job
from napari_wsss.jobs import CancelToken, Event, Job, run_job
from napari_wsss.models import Classifier, weights_digest
from napari_wsss.models.depths import Depth, depth_number
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide

__all__ = ["SlideMaps", "find_maps", "map_job", "map_slide"]


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

    @property
    def depth(self) -> int | None:
        """The depth of the maps, 1 (shallowest) to D; None for the classifier's own."""
        depth: int | None = self.run.get("depth")
        return depth

    def summary(self) -> dict[str, Any]:
        """Return plain data: shape, µm/px, mean evidence per class, and blocks."""
        return dict(self.run["summary"])


def map_slide(
    slide: Slide,
    classifier: Classifier,
    out: str | Path,
    settings: InferenceSettings | None = None,
    *,
    depth: Depth | None = None,
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

    One run makes the maps of one depth, in a folder of its own (``-maps-depth-2.ome.zarr``):
    all of them together would multiply what a block holds in memory and what is stored, for
    maps that mostly nobody looks at, while a shallow depth alone leaves out the layers above
    it. So each is stopped, resumed and verified by itself, and those that exist can be
    switched between.

    Parameters
    ----------
    slide, settings, model_mpp, device, overwrite, view, live, cluster, on_event, cancel
        As in `segment_slide`.
    classifier
        Its class maps are made by one forward pass per block.
    out
        Folder of results.
    depth
        None for the classifier's own map: that of the joint head if it has one, else the mean
        of all its heads. A number for the map of one head, 1 (shallowest) to D (deepest) as
        pseudo masks count, or -1 (deepest), -2 ... as the setting ``depths`` does. ``"joint"``
        insists on the joint head. Depths without head need gradients, one patch at a time:
        see `napari_wsss.cams.Explainer`.

    Returns
    -------
    SlideMaps
        (K, H', W') uint8: the sigmoid of each class's CAM logit, times 254.

    Raises
    ------
    MissingResolutionError, SlideError, ModelError, OutputError, CancelledError
        As they say.
    """
    options = RunOptions(
        model_mpp=model_mpp,
        device=device,
        overwrite=overwrite,
        view=view,
        live=live,
        cluster=cluster,
    )
    job = map_job(slide, classifier, Path(out), settings, options, depth=depth, cancel=cancel)
    return run_job(job, on_event)


def map_job(
    slide: Slide,
    classifier: Classifier,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    options: RunOptions | None = None,
    *,
    depth: Depth | None = None,
    cancel: CancelToken | None = None,
) -> Job[SlideMaps]:
    """Yield the events of `map_slide`, which documents the parameters."""
    make = partial(MapsOutput, depth=depth_number(classifier, depth))
    path = yield from slide_job(make, slide, classifier, out_dir, settings, options, cancel=cancel)
    return SlideMaps.open(path)


def find_maps(
    slide: Slide, classifier: Classifier, out: str | Path, *, depth: Depth | None = None
) -> Path | None:
    """Return the folder of maps that a run of `map_slide` finished or began; None without one.

    Parameters
    ----------
    slide, classifier, out, depth
        As of `map_slide`. Maps of another slide of that name, or by another classifier, are
        none of these; those of other inference settings are.

    Raises
    ------
    ModelError
        If the classifier has no such depth.
    """
    number = depth_number(classifier, depth)
    output = MapsOutput(classifier.classes, InferenceSettings(), number)
    path = result_path(Path(out), slide.name + output.suffix)
    try:
        run = read_run(path)
        made = run["kind"], run.get("depth"), run["model"]["sha256"]
        same = slide.was(run["slide"]["fingerprint"])
    except (SlideError, KeyError, TypeError):  # nothing, or nothing of ours
        return None
    wanted = output.kind, number, weights_digest(classifier)
    return path if same and made == wanted else None
