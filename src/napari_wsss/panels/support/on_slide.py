"""Jobs on a slide: in the helper process if its file can be opened there, else in this thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.helper import apart, compute_here
from napari_wsss.slides import Slide, open_slide

__all__ = ["on_slide"]

T = TypeVar("T")


def on_slide(
    slide: Slide,
    function: Callable[..., Job[T]],
    *arguments: Any,
    cancel: CancelToken,
    view: Callable[[], Any] | None = None,
) -> Job[T]:
    """Yield the events of a job on a slide; returns what it returns.

    Parameters
    ----------
    slide
        A slide of a file is opened anew in the helper process. The arrays of other plugins
        cannot be given to another process.
    function
        Of a module; called with a slide, the arguments and ``cancel``, and ``view`` if it is
        given.
    arguments, cancel, view
        As of `apart`.
    """
    if slide.path is not None:
        wanted = slide.path, slide.mpp, function, arguments
        return (yield from apart(_on_file, *wanted, cancel=cancel, view=view))
    compute_here()
    more = {} if view is None else {"view": view}
    return (yield from function(slide, *arguments, **more, cancel=cancel))


def _on_file(
    path: Path,
    mpp: float | None,
    function: Callable[..., Job[T]],
    arguments: tuple[Any, ...],
    **options: Any,
) -> Job[T]:
    with open_slide(path, mpp=mpp) as slide:
        return (yield from function(slide, *arguments, **options))
