"""Converting any slide to an OME-Zarr 0.5 pyramid, through dask, in bounded memory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np

from napari_wsss.jobs import CancelToken, Event, Job, Progress, run_job
from napari_wsss.slides.ome_zarr import Channels, create_pyramid
from napari_wsss.slides.opening import open_slide
from napari_wsss.slides.pixels import WHITE
from napari_wsss.slides.pyramid import writing
from napari_wsss.slides.slide import Slide
from napari_wsss.slides.store import check_free

__all__ = ["convert_job", "convert_slide"]

#: Chunks on a side of what is read and written at once: 12 MiB of RGB with 512 px chunks.
_BAND_CHUNKS = 4
_RGB = Channels(("red", "green", "blue"), ("#ff0000", "#00ff00", "#0000ff"), per_chunk=3)


def convert_slide(
    source: Any,
    out: str | Path,
    *,
    overwrite: bool = False,
    chunk: int = 512,
    compression_level: int = 3,
    on_event: Callable[[Event], Any] | None = None,
    cancel: CancelToken | None = None,
) -> Path:
    """Convert a slide to an OME-Zarr 0.5 image (c, y, x).

    Parameters
    ----------
    source
        A `Slide` or anything that `open_slide` takes.
    out
        Folder to create; it appears under this name only when it is complete.
    overwrite
        Replace an earlier result of this package.
    chunk
        Side of a chunk in px.
    compression_level
        Of zstd, 1 to 22.
    on_event
        Called with every `Progress`.
    cancel
        Set from another thread to stop.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    SlideError
        If the slide cannot be opened or read.
    OutputError
        If `out` exists or cannot be written.
    CancelledError
        If it was cancelled; nothing is left behind.
    """
    job = convert_job(
        source,
        out,
        overwrite=overwrite,
        chunk=chunk,
        compression_level=compression_level,
        cancel=cancel,
    )
    return run_job(job, on_event)


def convert_job(
    source: Any,
    out: str | Path,
    *,
    overwrite: bool = False,
    chunk: int = 512,
    compression_level: int = 3,
    cancel: CancelToken | None = None,
) -> Job[Path]:
    """Do what `convert_slide` does as a job that yields `Progress`."""
    out, cancel = Path(out), cancel or CancelToken()
    partial = out.with_name(out.name + ".partial")
    check_free(out, overwrite=overwrite)
    check_free(partial, overwrite=True)  # left by a run that was killed
    slide = open_slide(source)
    try:
        yield from _write(slide, partial, chunk, compression_level, cancel)
        with writing(out):
            if out.exists():
                shutil.rmtree(out)
            os.replace(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if slide is not source:
            slide.close()
    return out


def _write(
    slide: Slide, path: Path, chunk: int, compression_level: int, cancel: CancelToken
) -> Generator[Event, None, None]:
    height, width = slide.shape
    pyramid = create_pyramid(
        path,
        (3, height, width),
        axes=("c", "y", "x"),
        mpp=slide.mpp,
        chunk=chunk,
        fill_value=WHITE,
        name=slide.name,
        channels=_RGB,
        compression_level=compression_level,
        overwrite=True,
    )
    band = chunk * _BAND_CHUNKS
    corners = [(y, x) for y in range(0, height, band) for x in range(0, width, band)]
    for done, (y, x) in enumerate(corners, 1):
        cancel.raise_if_cancelled("Nothing was written.")
        # dask reads the blocks of this band in threads; only the band is ever in memory.
        pixels = np.asarray(slide.levels[0][y : y + band, x : x + band].compute())
        pyramid.write(y, x, np.moveaxis(pixels, -1, 0))
        yield Progress("convert", done, len(corners))
    for done, total in pyramid.build_steps("mean"):
        cancel.raise_if_cancelled("Nothing was written.")
        yield Progress("pyramid", done, total)
