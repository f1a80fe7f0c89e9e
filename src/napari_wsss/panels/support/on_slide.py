"""Jobs on a slide: in the helper process if its file can be opened there, else in this thread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, Progress
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
    arguments, cancel
        As of `apart`.
    view
        As of `apart`; only runs block by block have one. They may be left while they compute
        blocks, as they store no more of them and their journal is right at any moment.
    """
    if slide.path is not None:
        wanted = slide.path, slide.mpp, function, arguments
        leave = None if view is None else _Blocks()
        return (yield from apart(_on_file, *wanted, cancel=cancel, view=view, leave=leave))
    compute_here()
    more = {} if view is None else {"view": view}
    return (yield from function(slide, *arguments, **more, cancel=cancel))


class _Blocks:
    """Says, event by event, whether a run is still computing blocks.

    It begins to after it has said what it will do; with the last block that is over, and the
    coarser levels and the seal follow.
    """

    def __init__(self) -> None:
        self._computing = self._block = False

    def __call__(self, event: Event) -> bool:
        if isinstance(event, BlockDone):
            self._block = True
        elif isinstance(event, Progress):
            self._computing = self._block and event.done < event.total
            self._block = False
        elif isinstance(event, Log):
            self._computing = True
        return self._computing


def _on_file(
    path: Path,
    mpp: float | None,
    function: Callable[..., Job[T]],
    arguments: tuple[Any, ...],
    **options: Any,
) -> Job[T]:
    with open_slide(path, mpp=mpp) as slide:
        return (yield from function(slide, *arguments, **options))
