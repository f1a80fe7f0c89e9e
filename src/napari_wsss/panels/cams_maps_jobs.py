"""Class maps of whole slides, beside the viewer: making them, and finding those that are there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_wsss.jobs import CancelToken, Job, Log

if TYPE_CHECKING:
    from napari_wsss.inference import RunOptions
    from napari_wsss.models import Classifier
    from napari_wsss.slides import Slide

__all__ = ["find_job", "map_job"]


def map_job(
    slide: Slide,
    classifier: Path,
    out: Path,
    depth: int | None,
    options: RunOptions,
    *,
    view: Callable[[], tuple[float, float] | None],
    cancel: CancelToken,
) -> Job[Path]:
    """Map a whole slide; returns the folder of the maps.

    `view` says where the user looks, (y, x) in level-0 pixels of the slide, and takes the
    place of that of `options`; the other parameters are those of `napari_wsss.map_slide`.
    """
    from napari_wsss import inference
    from napari_wsss.models import load_classifier

    model = load_classifier(classifier)
    step = (model.mpp or options.model_mpp or 1) / slide.require_mpp()

    def on_maps() -> tuple[float, float] | None:
        yx = view()
        return None if yx is None else (yx[0] / step, yx[1] / step)

    options = replace(options, view=on_maps, live=True)
    maps = yield from inference.map_job(
        slide, model, out, options=options, depth=depth, cancel=cancel
    )
    return maps.path


def find_job(
    slide: Slide, classifier: Path, out: Path, depth: int | None, *, cancel: CancelToken
) -> Job[Path | None]:
    """Return the folder of maps of a slide that are there, as `find_maps`."""
    from napari_wsss.inference import find_maps

    yield Log("Looking for maps")
    cancel.raise_if_cancelled()
    stat = classifier.stat() if classifier.is_file() else None
    stamp = () if stat is None else (stat.st_mtime_ns, stat.st_size)
    return find_maps(slide, _classifier(classifier, stamp), out, depth=depth)


@functools.lru_cache(maxsize=1)
def _classifier(path: Path, stamp: tuple[int, ...]) -> Classifier:
    """Return a classifier; the last one is kept, as one depth is looked for after the other."""
    from napari_wsss.models import load_classifier

    return load_classifier(path)
