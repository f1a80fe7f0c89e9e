"""What the panel of corrections does in threads: opening, reading, writing back, adding."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.panels.support.layer_slide import slide_of

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsss.inference import SlideSegmentation
    from napari_wsss.inference.drafts import Draft
    from napari_wsss.inference.tiles import Rect
    from napari_wsss.patches import PatchSet

__all__ = [
    "Look",
    "Opened",
    "Written",
    "add_job",
    "draft_job",
    "look_job",
    "model_job",
    "open_job",
    "write_job",
]


@dataclass(frozen=True)
class Look:
    """A result, and the regions with paint that was not written back, the latest first."""

    result: SlideSegmentation
    drafts: tuple[Rect, ...]


@dataclass(frozen=True, eq=False)
class Opened:
    """A region that was read: its place, its labels (h, w), and what was painted earlier."""

    result: SlideSegmentation
    rect: Rect
    labels: NDArray[np.uint8]
    draft: Draft | None


@dataclass(frozen=True, eq=False)
class Written:
    """A region that was written back: the result as it is now, what was sent, what is there."""

    result: SlideSegmentation
    sent: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def look_job(path: Path) -> Job[Look]:
    """Open a result."""
    from napari_wsss.inference import SlideSegmentation
    from napari_wsss.inference.drafts import draft_places

    yield Progress("Looking", 0, 1)
    return Look(SlideSegmentation.open(path), tuple(draft_places(path)))


def open_job(path: Path, region: tuple[int, int, int, int]) -> Job[Opened]:
    """Read a region (y, x, height, width) of the result at `path`."""
    from napari_wsss.inference import SlideSegmentation, read_region
    from napari_wsss.inference.drafts import read_draft
    from napari_wsss.inference.tiles import Rect

    yield Progress("Reading", 0, 1)
    result, rect = SlideSegmentation.open(path), Rect(*region)
    return Opened(result, rect, read_region(result, *rect), read_draft(path, rect))


def write_job(
    result: SlideSegmentation, rect: Rect, labels: NDArray[np.uint8], before: NDArray[np.uint8]
) -> Job[Written]:
    """Write what was painted; what somebody else changed meanwhile stays and is shown."""
    from napari_wsss.inference import correct_region, read_region

    yield Progress("Writing back", 0, 1)
    new = correct_region(result, rect.y, rect.x, labels, before=before)
    return Written(new, labels, read_region(new, *rect))


def model_job(result: SlideSegmentation, rect: Rect) -> Job[NDArray[np.uint8]]:
    """Read what the model had found in a region."""
    from napari_wsss.inference import model_region

    yield Progress("Reading", 0, 1)
    return model_region(result, *rect)


def draft_job(path: Path, draft: Draft, turn: Lock, cancel: CancelToken) -> Job[None]:
    """Keep paint that is not written back, unless later paint was kept meanwhile.

    Parameters
    ----------
    path, draft
        As in `save_draft`.
    turn
        Held by whoever writes a draft.
    cancel
        Set by whoever has later paint.
    """
    from napari_wsss.inference.drafts import save_draft

    yield Progress("Keeping", 0, 1)
    with turn:
        cancel.raise_if_cancelled()
        save_draft(path, draft)


def add_job(
    result: SlideSegmentation, rect: Rect, layer: Layer, folder: Path, cancel: CancelToken
) -> Job[PatchSet]:
    """Add a region with the slide of `layer` to a folder of corrections."""
    from napari_wsss.training import add_corrections_job

    # The µm/px of the run: the layer's may have been lost or changed on screen.
    with slide_of(layer, result.run["slide"]["mpp"]) as slide:
        return (yield from add_corrections_job(result, slide, folder, *rect, cancel=cancel))
