"""Pretraining as the panel runs it: beside the viewer where all slides are files."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.helper import apart, compute_here
from napari_wsss.slides import Slide, open_slide

if TYPE_CHECKING:
    from napari_wsss.patches import PatchSet
    from napari_wsss.settings import PretrainSettings
    from napari_wsss.training import PretrainedEncoder

__all__ = ["pretrain_beside"]


def pretrain_beside(
    slides: list[Slide],
    others: list[PatchSet | Path],
    out: Path,
    settings: PretrainSettings,
    *,
    device: str,
    overwrite: bool,
    cancel: CancelToken,
) -> Job[PretrainedEncoder]:
    """Yield the events of `pretrain_job`; returns what it returns.

    Parameters
    ----------
    slides
        Slides of files are opened anew in the helper process. The arrays of other plugins
        cannot be given to it; with one of these, this thread computes.
    others
        Patch sets and folders.
    out, settings, device, overwrite, cancel
        As of `pretrain_encoder`.
    """
    how: dict[str, Any] = {"device": device, "overwrite": overwrite}
    files = [(slide.path, slide.mpp) for slide in slides if slide.path is not None]
    if len(files) == len(slides):
        arguments = files, others, out, settings, how
        return (yield from apart(_on_files, *arguments, cancel=cancel))
    from napari_wsss.training import pretrain_job

    compute_here()
    return (yield from pretrain_job([*slides, *others], out, settings, **how, cancel=cancel))


def _on_files(
    files: list[tuple[Path, float | None]],
    others: list[PatchSet | Path],
    out: Path,
    settings: PretrainSettings,
    how: dict[str, Any],
    *,
    cancel: CancelToken,
) -> Job[PretrainedEncoder]:
    from napari_wsss.training import pretrain_job

    with ExitStack() as opened:
        slides = [opened.enter_context(open_slide(path, mpp=mpp)) for path, mpp in files]
        return (yield from pretrain_job([*slides, *others], out, settings, **how, cancel=cancel))
