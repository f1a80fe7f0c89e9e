"""A labelled data set to try everything with: the synthetic slide, cut into patches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_wsss import __version__
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.patches import CutRules, PatchSet, cut_patches_job, load_patches
from napari_wsss.patches.formats import own
from napari_wsss.samples import synthetic_slide
from napari_wsss.workflows.synthetic import PATCH_PX, STRIDE_PX, index_values, save_regions

__all__ = ["Lesson", "draw_lesson", "lesson_job"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """The synthetic slide, and patches of it with the classes that occur in them.

    Attributes
    ----------
    slide
        The slide, a tiled TIFF.
    truth
        Its true mask, a PNG in the values of `patches.classes`.
    patches
        The data set. The groups of patches are regions of the slide, so that some can be held
        out.
    """

    slide: Path
    truth: Path
    patches: PatchSet


def draw_lesson(
    folder: str | Path,
    shape: tuple[int, int] = (2048, 2048),
    *,
    seed: int = 0,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> Lesson:
    """Draw the synthetic slide and cut it into labelled patches.

    Parameters
    ----------
    folder
        Where slide and patches are written, into a folder of their own per size and seed. What
        is there already is not drawn again.
    shape
        (H, W) of the slide in px.
    seed
        Of the slide.
    on_event, cancel
        As in `train_classifier`.

    Raises
    ------
    SettingsError
        If the slide cannot be drawn like this.
    OutputError
        If the folder cannot be written.
    """
    return run_job(lesson_job(Path(folder), shape, seed=seed, cancel=cancel), on_event)


def lesson_job(
    folder: Path,
    shape: tuple[int, int] = (2048, 2048),
    *,
    seed: int = 0,
    cancel: CancelToken | None = None,
) -> Job[Lesson]:
    """Yield the events of `draw_lesson`, which documents the parameters."""
    place = folder / f"synthetic-{shape[1]}x{shape[0]}-seed{seed}-{__version__}"
    files = place / "slide.tif", place / "truth.png"
    # The header of the patches is written last of all.
    if own.recognise(place / "patches"):
        return Lesson(*files, load_patches(place / "patches"))
    yield Log("Drawing the synthetic slide")
    slide = synthetic_slide(shape, seed=seed)
    slide.save(place)
    images, masks = save_regions(slide, place / "regions")
    patches = yield from cut_patches_job(
        images,
        masks,
        index_values(slide.classes),
        place / "patches",
        CutRules(size_px=PATCH_PX, stride_px=STRIDE_PX, mpp=slide.mpp),
        cancel=cancel,
    )
    return Lesson(*files, patches)
