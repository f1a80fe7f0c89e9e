"""What the class maps panel does in threads: reading headers, explaining patches and regions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError, ModelError
from napari_wsss.jobs import CancelToken, Job, Log, Progress
from napari_wsss.panels.cams_cells import region_options

if TYPE_CHECKING:
    from napari_wsss.cams import Explainer, Explanation
    from napari_wsss.models import ModelInfo
    from napari_wsss.panels.support.live import Place
    from napari_wsss.patches import PatchSet
    from napari_wsss.settings import PseudoMaskSettings
    from napari_wsss.slides import Slide

__all__ = ["Found", "LoadedClassifier", "header_job", "patch_job", "quality_job", "region_job"]


@dataclass(frozen=True)
class Found:
    """An explanation, and what else the panel shows of it.

    Attributes
    ----------
    explanation
        The maps.
    name
        Of the patch or region.
    place
        For a region: options of layers that say where it lies in the viewer.
    mpp
        µm/px of a patch; None if it is not known.
    truth
        (H, W) class indices of the patch's mask; None if it has none.
    """

    explanation: Explanation
    name: str
    place: dict[str, Any] | None = None
    mpp: float | None = None
    truth: NDArray[np.uint8] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return self.explanation.image.shape


class LoadedClassifier:
    """Keeps the classifier that explained last, since loading one takes longer than a patch."""

    def __init__(self) -> None:
        self._key: object = None
        self._explainer: Explainer | None = None

    def explainer(self, path: Path, settings: PseudoMaskSettings, device: str) -> Explainer:
        """Return the explainer of a checkpoint; the same one as long as nothing changes."""
        from napari_wsss.cams import Explainer
        from napari_wsss.models import load_classifier

        stamp = path.stat() if path.exists() else None
        key = (path, settings, device, stamp and (stamp.st_mtime_ns, stamp.st_size))
        if self._explainer is None or key != self._key:
            self._explainer = Explainer(load_classifier(path), settings, device=device)
            self._key = key
        return self._explainer


def header_job(path: Path) -> Job[ModelInfo]:
    """Read what a checkpoint says of itself; ModelError if it is no classifier."""
    from napari_wsss.models import read_info

    yield Log(f"Reading {path.name}")
    info = read_info(path)
    if info.kind != "classifier":
        raise ModelError(f"{path.name} is a {info.kind}. Class maps need a classifier.")
    return info


def patch_job(
    explainer: Callable[[], Explainer], patches: PatchSet, i: int, cancel: CancelToken
) -> Job[Found]:
    """Explain patch `i` of a set; `explainer` is called in the thread."""
    yield Log(f"Patch {patches.names[i]}")
    ready = explainer()
    known = ready.info.class_table.names
    if known != patches.classes.names:
        raise ModelError(
            f"The classifier knows {', '.join(known)}; the data set has "
            f"{', '.join(patches.classes.names)}. Train a classifier on this data set."
        )
    # An unlabelled patch gets the classes that the classifier finds.
    label = patches.labels[i] if patches.labels[i].any() else None
    explanation = yield from ready.job(
        patches.read(i), name=patches.names[i], label=label, glass=patches.glass, cancel=cancel
    )
    masked = patches.masks is not None and patches.masks[i] is not None
    truth = patches.read_mask(i) if masked else None
    return Found(explanation, patches.names[i], mpp=patches.mpp, truth=truth)


def region_job(
    explainer: Callable[[], Explainer],
    open_slide: Callable[[], Slide],
    place: Place,
    corners: NDArray[np.float64],
    mpp: float | None,
    label: NDArray[np.bool_] | None,
    cancel: CancelToken,
) -> Job[Found]:
    """Explain a rectangle of a slide.

    Parameters
    ----------
    explainer
        Called in the thread.
    open_slide, place
        Opens the slide, called in the thread; and where its layer lies in the viewer.
    corners
        (2, 2): upper left and lower right, in level-0 pixels as the viewer counts, where whole
        numbers are centres of pixels.
    mpp
        µm/px of the classifier where it does not say it.
    label, cancel
        As in `Explainer.explain`.
    """
    from napari_wsss.cams import read_region

    yield Log("Region of the slide")
    ready = explainer()
    y, x = corners[0] + 0.5
    height, width = corners[1] - corners[0]
    with open_slide() as slide:
        region = read_region(slide, ready.info.mpp or mpp, y, x, height, width)
    explanation = yield from ready.job(region.image, name="region", label=label, cancel=cancel)
    return Found(
        explanation,
        f"region of {slide.name}",
        region_options(region, place),
    )


def quality_job(folder: Path, patches: PatchSet, cancel: CancelToken) -> Job[dict[str, Any]]:
    """Measure pseudo masks on those patches that have a mask."""
    from napari_wsss.cams import PseudoMasks
    from napari_wsss.cams import quality_job as measure

    yield Progress("Quality", 0, len(patches))
    masks = patches.masks or ()
    measured = patches.subset([i for i, mask in enumerate(masks) if mask is not None])
    if not len(measured):
        raise DataError("No patch of this data set has a mask to measure against.")
    return (yield from measure(PseudoMasks(folder), measured, cancel=cancel))
