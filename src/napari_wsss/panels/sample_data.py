"""napari's sample data: the synthetic slide with labelled patches, and a public slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsss.errors import SlideError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.reader import read
from napari_wsss.panels.support.downloading import download_job
from napari_wsss.panels.support.helper import apart
from napari_wsss.panels.support.layers import LayerData, labels_layer

if TYPE_CHECKING:
    from napari_wsss.patches import PatchSet

__all__ = ["public_slide_layers", "synthetic_slide_layers"]

#: A region of an H&E slide by Carnegie Mellon University, from OpenSlide's test data.
PUBLIC_URL = (
    "https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs"
)
PUBLIC_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"


def synthetic_slide_layers() -> list[LayerData]:
    """Draw the synthetic slide, and make its labelled patches the viewer's data set.

    The first time that takes some ten seconds, with a dialog that shows how far it is.

    Returns
    -------
    list of LayerData
        The slide, and its truth as a labels layer that starts hidden: class index + 1,
        0 for glass.

    Raises
    ------
    OutputError
        If the cache folder of the user cannot be written.
    CancelledError
        If the user cancels.
    """
    import numpy as np

    from napari_wsss.classes import IGNORE
    from napari_wsss.panels.support.waiting import wait_for
    from napari_wsss.patches.images import read_mask_values

    cache = _cache()
    slide, mask, patches = wait_for(
        "Synthetic slide", lambda cancel: apart(_draw, cache, cancel=cancel)
    )
    classes = patches.classes
    truth = classes.to_indices(read_mask_values(mask))
    labels = np.where(truth == IGNORE, 0, truth + 1).astype(np.uint8)
    ((image, options, kind),) = read(slide)
    data, truth_options, labels_kind = labels_layer(
        [labels], "truth", patches.mpp, classes, downsample=(1.0, 1.0)
    )
    _hand_over(patches)
    return [
        (image, {**options, "name": "synthetic slide"}, kind),
        (data, {**truth_options, "visible": False}, labels_kind),
    ]


def public_slide_layers() -> list[LayerData]:
    """Download the slide CMU-1-Small-Region once, check it, and open it.

    Returns
    -------
    list of LayerData
        The slide.

    Raises
    ------
    SlideError
        If it cannot be downloaded, or is not what it should be.
    CancelledError
        If the user cancels.
    """
    from napari_wsss.panels.support.waiting import wait_for

    cache = _cache()
    return read(wait_for("CMU-1-Small-Region", lambda cancel: _download_job(cache, cancel)))


def _draw(cache: Path, *, cancel: CancelToken) -> Job[tuple[Path, Path, PatchSet]]:
    """Return slide, true mask and patches."""
    from napari_wsss import workflows

    lesson = yield from workflows.lesson_job(cache, cancel=cancel)
    return lesson.slide, lesson.truth, lesson.patches


def _download_job(cache: Path, cancel: CancelToken) -> Job[str]:
    import requests

    try:
        return (yield from download_job(PUBLIC_URL, PUBLIC_SHA256, cache, cancel))
    except requests.RequestException as error:
        raise SlideError(
            f"The slide could not be downloaded from {PUBLIC_URL}: is there a connection to the "
            "internet? Where there is none, download this address elsewhere and drop the file "
            "into the viewer, or open the synthetic slide, which needs no download."
        ) from error
    except ValueError as error:  # what pooch raises for another hash
        raise SlideError(
            f"What came from {PUBLIC_URL} is not the slide it should be (its checksum differs), "
            "so it was not kept. Try again, or from another network."
        ) from error
    except OSError as error:
        raise SlideError(
            f"The slide cannot be saved in {cache}: {error}. Free some space, or download "
            f"{PUBLIC_URL} with a browser and drop the file into the viewer."
        ) from error


def _cache() -> Path:
    """Return the user's cache folder of this package."""
    import pooch

    return Path(pooch.os_cache("napari-wsss"))


def _hand_over(patches: PatchSet) -> None:
    """Make `patches` the data set of the viewer that asked for the sample."""
    import napari
    from napari.utils.notifications import show_info

    from napari_wsss.panels.support.preferences import preferences
    from napari_wsss.panels.support.state import state_of

    viewer = napari.current_viewer()
    if viewer is None:
        return
    state = state_of(viewer)
    # Models and results of it are the user's, and do not belong into a cache.
    state.set(patch_set=patches, folder=state.folder or preferences().work_folder)
    show_info(
        f"{len(patches)} labelled patches of this slide are loaded, too: see the panel "
        "Data set, or go on to Train classifier "
        "(Layers > Segment > Segmentation from patch labels)."
    )
