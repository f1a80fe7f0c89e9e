"""What there is of a result before and while it is made: blocks done, areas so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_wsss.classes import ClassTable
from napari_wsss.inference.journal import Journal
from napari_wsss.inference.result import (
    JOURNAL_FILE,
    RUN_FILE,
    class_shares,
    read_run,
    result_path,
)
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide

if TYPE_CHECKING:
    from napari_wsss.models import WsssModel

__all__ = ["RunStatus", "areas_so_far", "run_status"]


@dataclass(frozen=True)
class RunStatus:
    """What a call of `segment_slide` would meet in its folder.

    Attributes
    ----------
    path
        Where the result is, or will be.
    state
        ``"new"``: nothing is there; ``"begun"``: the call would go on; ``"finished"``: it
        would find its result; ``"other"``: a result of something else, or a folder that is
        no result, is in the way.
    done, total
        Blocks.
    different
        How the inputs of the other result differ, one sentence each.
    """

    path: Path
    state: Literal["new", "begun", "finished", "other"]
    done: int = 0
    total: int = 0
    different: tuple[str, ...] = ()


def run_status(
    slide: Slide,
    model: WsssModel,
    out: str | Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
) -> RunStatus:
    """Say what `segment_slide` with the same arguments would begin with; writes nothing.

    Parameters
    ----------
    slide, model, out, settings, model_mpp, device
        As of `segment_slide`.

    Raises
    ------
    MissingResolutionError
        If the µm/px of slide or model is unknown.
    SlideError, ModelError, OutputError
        As they say.
    """
    # Here, since a viewer that counts areas, or is told of a status, needs no torch.
    from napari_wsss.inference.blocks import SlidePlan
    from napari_wsss.inference.folder import RunFolder
    from napari_wsss.inference.record import differences, precision_of_run, run_record
    from napari_wsss.models.device import choose_device, describe_device, resolved_precision

    settings = settings or InferenceSettings()
    path = result_path(Path(out), slide.name)
    # Without looking for tissue, which decides on no block's place.
    plan = SlidePlan.of(slide, model, settings.changed(tissue_only=False), model_mpp)
    total = math.prod(-(-n // plan.side) for n in plan.shape)
    if not path.exists():
        return RunStatus(path, "new", total=total)
    if not (path / RUN_FILE).is_file():
        is_ours = RunFolder(path, {}).is_ours()
        return RunStatus(path, "new" if is_ours else "other", total=total)
    chosen, earlier = choose_device(device), read_run(path)
    where = describe_device(chosen, settings.precision)
    native = resolved_precision(chosen, settings.precision)
    precision = precision_of_run(earlier, settings, native)
    now = run_record("segmentation", slide, model, settings, plan, where, precision, earlier)
    different = tuple(differences(earlier, now))
    if different:
        return RunStatus(path, "other", total=total, different=different)
    if earlier.get("complete"):
        return RunStatus(path, "finished", total, total)
    done = Journal(path / JOURNAL_FILE).peek()
    return RunStatus(path, "begun", len(done), total)


def areas_so_far(path: str | Path) -> list[dict[str, Any]]:
    """Return pixels, share and mm² per class of a segmentation that may still be growing.

    Parameters
    ----------
    path
        ``NAME.ome.zarr``.

    Returns
    -------
    list of dict
        As ``summary()["classes"]`` of a finished one: ``class``, ``pixels``,
        ``share_of_tissue``, ``area_mm2``; background first.

    Raises
    ------
    SlideError, OutputError
        If there is no result, or its journal cannot be read.
    """
    path = Path(path)
    run = read_run(path)
    if run.get("complete"):
        return list(run["summary"]["classes"])
    classes = ClassTable.from_dict(run["model"]["classes"], str(path))
    counts = np.zeros(len(classes) + 1, np.int64)
    for entry in Journal(path / JOURNAL_FILE).peek().values():
        if entry.unreadable is None:
            counts += np.asarray(entry.stats, np.int64)
    mpp, scale = run["slide"]["mpp"], run["downsample"]
    pixel_mm2 = None if mpp is None else (mpp * (scale[0] + scale[1]) / 2) ** 2 * 1e-6
    return class_shares(counts, classes, pixel_mm2)
