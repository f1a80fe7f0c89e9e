"""Corrected regions of results as training patches with true masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError, SlideError
from napari_wsss.inference import SlideSegmentation, read_region
from napari_wsss.inference.result import BACKGROUND, NOT_COMPUTED
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.patches import PatchSet, load_patches
from napari_wsss.patches.extending import PatchExtender
from napari_wsss.patches.formats.common import MIN_SHARE, class_presence
from napari_wsss.patches.windows import window_origins
from napari_wsss.slides import ResampledSlide, Slide

__all__ = ["add_corrections", "add_corrections_job", "read_corrections"]


def add_corrections(
    result: SlideSegmentation,
    slide: Slide,
    folder: str | Path,
    y: int,
    x: int,
    height: int,
    width: int,
    *,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> PatchSet:
    """Cut a region of a result into patches with true masks and add them to a folder.

    Every pixel of the region counts as true, whether it was painted or left as the model had
    found it; background and pixels that were not computed are left out of training. A region
    that is added again takes the place of what was added before.

    Parameters
    ----------
    result
        The corrected segmentation.
    slide
        The slide it was made from.
    folder
        Patch set of corrections, of the format that `cut_patches` writes; made if there is
        none.
    y, x, height, width
        The region, in pixels of the result; at least the side of the model's patches.
    on_event, cancel
        As in `train_classifier`; a cancelled job adds nothing.

    Returns
    -------
    PatchSet
        All corrections in `folder`. The group of a patch is its slide and region.

    Raises
    ------
    DataError
        If the region is too small, holds no class, or the folder is of other classes.
    SlideError
        If it is another slide, or cannot be read.
    OutputError
        If the folder cannot be written.
    """
    job = add_corrections_job(result, slide, Path(folder), y, x, height, width, cancel=cancel)
    return run_job(job, on_event)


def add_corrections_job(
    result: SlideSegmentation,
    slide: Slide,
    folder: Path,
    y: int,
    x: int,
    height: int,
    width: int,
    *,
    cancel: CancelToken | None = None,
) -> Job[PatchSet]:
    """Yield the events of `add_corrections`, which documents the parameters."""
    cancel = cancel or CancelToken()
    side = int(result.run["model"]["patch_size_px"])
    labels = read_region(result, y, x, height, width)
    if min(height, width) < side:
        raise DataError(
            f"The region is {height} x {width} px; the model's patches are {side} x {side} px, so "
            "it must be at least that large."
        )
    grid = _grid(result, slide)
    classes = result.classes.with_index_values()
    masks = np.where((labels == BACKGROUND) | (labels == NOT_COMPUTED), IGNORE, labels - 1)
    windows = list(window_origins((height, width), side, side))
    group = f"{slide.name}/y{y}_x{x}_{height}x{width}"
    added = 0
    with PatchExtender(folder, classes, group=group, size_px=side, mpp=result.mpp) as set_:
        for done, (top, left) in enumerate(windows, 1):
            cancel.raise_if_cancelled("Nothing was added.")
            mask = masks[top : top + side, left : left + side]
            presence = class_presence(mask, len(classes), MIN_SHARE)
            if presence.any():
                image = grid.read(y + top, x + left, side, side)
                name = f"{slide.name}_y{y + top:06d}_x{x + left:06d}_{height}x{width}"
                set_.add(name, image, mask, presence)
                added += 1
            yield Progress("Corrections", done, len(windows))
        if not added:
            raise DataError(
                f"No patch of the region has a class that covers {MIN_SHARE:.0%} of it; nothing "
                "was added."
            )
        set_.finish()
    everything = read_corrections(folder)
    yield Log(f"{added} patches with true masks added to {folder}; it holds {len(everything)}")
    return everything


def read_corrections(folder: str | Path) -> PatchSet:
    """Load a folder of corrections.

    Raises
    ------
    DataError
        If it is none, or its patches have no masks.
    """
    patches = load_patches(folder)
    if patches.masks is None or any(mask is None for mask in patches.masks):
        raise DataError(f"{folder} has patches without masks, so it is no set of corrections.")
    return patches


def _grid(result: SlideSegmentation, slide: Slide) -> ResampledSlide:
    """Return the slide on the result's pixels; SlideError if it is another slide."""
    made_from = result.run["slide"]
    # Arrays have no fingerprint that outlasts a session; their shape must do.
    other = slide.path is not None and not slide.was(made_from["fingerprint"])
    if other or list(slide.shape) != list(made_from["shape"]):
        raise SlideError(
            f"{slide.name} is not the slide that {result.path} was made from "
            f"({made_from['name']}, {made_from['shape'][1]} x {made_from['shape'][0]} px). Open "
            "that one."
        )
    return ResampledSlide.at_downsample(slide, sum(result.downsample) / 2)
