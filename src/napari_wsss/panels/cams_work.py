"""What the class maps panel does beside the viewer: headers, patches and regions explained."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError, ModelError
from napari_wsss.jobs import CancelToken, Job, Log, Progress
from napari_wsss.panels.support.helper import apart
from napari_wsss.panels.support.on_slide import on_slide
from napari_wsss.settings import PseudoMaskSettings

if TYPE_CHECKING:
    from napari_wsss.cams import Explainer, Explanation, SlideRegion
    from napari_wsss.models import ModelInfo
    from napari_wsss.panels.support.live import Place
    from napari_wsss.patches import PatchSet
    from napari_wsss.patches.overlaps import Overlaps
    from napari_wsss.slides import Slide

__all__ = [
    "Found",
    "How",
    "header_job",
    "masks_job",
    "patch_job",
    "quality_job",
    "region_job",
]


@dataclass(frozen=True)
class How:
    """What explains: a checkpoint, how its maps are made, and where they are computed."""

    classifier: Path
    settings: PseudoMaskSettings
    device: str


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
    method
        How the maps were made, settled for the classifier.
    narrowed
        Whether patches that overlap this one narrow its mask down in the data set.
    """

    explanation: Explanation
    name: str
    place: dict[str, Any] | None = None
    mpp: float | None = None
    truth: NDArray[np.uint8] | None = None
    method: str = "auto"
    narrowed: bool = False

    @property
    def joint(self) -> bool:
        """Whether the maps are those of the joint head, which has no depths."""
        return self.method == "joint"

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, 3)."""
        return self.explanation.image.shape


def header_job(path: Path, cancel: CancelToken) -> Job[ModelInfo]:
    """Read what a checkpoint says of itself; ModelError if it is no classifier."""
    return (yield from apart(_header, path, cancel=cancel, compute=False))


def _header(path: Path, *, cancel: CancelToken) -> Job[ModelInfo]:
    from napari_wsss.models import read_info

    yield Log(f"Reading {path.name}")
    info = read_info(path)
    if info.kind != "classifier":
        raise ModelError(f"{path.name} is a {info.kind}. Class maps need a classifier.")
    return info


def patch_job(how: How, patches: PatchSet, i: int, cancel: CancelToken) -> Job[Found]:
    """Explain patch `i` of a set."""
    return (yield from apart(_patch, how, patches, i, cancel=cancel))


def _patch(how: How, patches: PatchSet, i: int, *, cancel: CancelToken) -> Job[Found]:
    yield Log(f"Patch {patches.names[i]}")
    ready = _explainer(how)
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
    return Found(
        explanation,
        patches.names[i],
        mpp=patches.mpp,
        truth=truth,
        method=how.settings.method,
        narrowed=bool(patches.labels[i].sum() > 1) and _overlaps(patches).narrows(i),
    )


def region_job(
    how: How,
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
    how
        What explains.
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
    yield Log("Region of the slide")
    with open_slide() as slide:
        inputs = how, corners, mpp, label
        region, explanation = yield from on_slide(slide, _region, *inputs, cancel=cancel)
    place_of = region_options(region, place)
    return Found(explanation, f"region of {slide.name}", place_of, method=how.settings.method)


def _region(
    slide: Slide,
    how: How,
    corners: NDArray[np.float64],
    mpp: float | None,
    label: NDArray[np.bool_] | None,
    *,
    cancel: CancelToken,
) -> Job[tuple[SlideRegion, Explanation]]:
    from napari_wsss.cams import read_region

    ready = _explainer(how)
    y, x = corners[0] + 0.5
    height, width = corners[1] - corners[0]
    region = read_region(slide, ready.info.mpp or mpp, y, x, height, width)
    explanation = yield from ready.job(region.image, name="region", label=label, cancel=cancel)
    return region, explanation


def region_options(region: SlideRegion, place: Place) -> dict[str, Any]:
    """Return what lays a region over its slide, whose layer lies at `place`."""
    scale = np.asarray(place.scale)
    return {
        **place.options(region.downsample),
        "translate": tuple((place.translate + scale * region.origin).tolist()),
    }


def masks_job(how: How, patches: PatchSet, out: Path, cancel: CancelToken) -> Job[Path]:
    """Make the pseudo masks of a data set; returns their folder."""
    return (yield from apart(_masks, how, patches, out, cancel=cancel))


def _masks(how: How, patches: PatchSet, out: Path, *, cancel: CancelToken) -> Job[Path]:
    from napari_wsss.cams import pseudo_mask_job
    from napari_wsss.models import load_classifier

    model = load_classifier(how.classifier)
    made = yield from pseudo_mask_job(
        patches, model, out, how.settings, device=how.device, cancel=cancel
    )
    return made.folder


def quality_job(folder: Path, patches: PatchSet, cancel: CancelToken) -> Job[dict[str, Any]]:
    """Measure pseudo masks on those patches that have a mask."""
    return (yield from apart(_quality, folder, patches, cancel=cancel))


def _quality(folder: Path, patches: PatchSet, *, cancel: CancelToken) -> Job[dict[str, Any]]:
    from napari_wsss.cams import PseudoMasks
    from napari_wsss.cams import quality_job as measure

    yield Progress("Quality", 0, len(patches))
    masks = patches.masks or ()
    measured = patches.subset([i for i, mask in enumerate(masks) if mask is not None])
    if not len(measured):
        raise DataError("No patch of this data set has a mask to measure against.")
    return (yield from measure(PseudoMasks(folder), measured, cancel=cancel))


#: What is known of the places of the last data set, by its fingerprint.
_places: dict[str, Overlaps] = {}


def _overlaps(patches: PatchSet) -> Overlaps:
    """Return where the patches of a set overlap; kept, as it takes long for a large set."""
    from napari_wsss.patches.overlaps import Overlaps

    found = _places.get(patches.fingerprint)
    if found is None:
        found = Overlaps(patches)
        _places.clear()
        _places[patches.fingerprint] = found
    return found


def _explainer(how: How) -> Explainer:
    """Return what explains; the last one is kept, as loading it takes longer than a patch."""
    try:
        found = how.classifier.stat()
    except OSError:
        return _load(how, ())  # which says what is wrong
    return _load(how, (found.st_mtime_ns, found.st_size))


@functools.lru_cache(maxsize=1)
def _load(how: How, stamp: tuple[int, ...]) -> Explainer:
    from napari_wsss.cams import Explainer
    from napari_wsss.models import load_classifier

    return Explainer(load_classifier(how.classifier), how.settings, device=how.device)
