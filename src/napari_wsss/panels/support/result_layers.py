"""Layers of our own OME-Zarr folders: results that are finished or still grow, saved labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_wsss.panels.support.beside_opengl import let_torch_load
from napari_wsss.panels.support.layers import (
    METADATA,
    LayerData,
    labels_layer,
    map_layer,
    uncertainty_look,
)

if TYPE_CHECKING:
    import zarr

    from napari_wsss.slides.downsample import Method

__all__ = ["own_layer", "run_of", "unfinished_text"]

let_torch_load()  # which reading a result brings with it, perhaps as the first thing of all

_RUN_FILE = "run.json"
_NOT_COMPUTED = 255


def run_of(path: Path) -> Mapping[str, Any] | None:
    """Return the run record of the result at `path`; None if it is no result.

    A correction that was cut off when it was being written is finished first.

    Raises
    ------
    SlideError
        If it is damaged.
    OutputError
        If there is such a correction, and the folder cannot be written to finish it.
    """
    if not (path / _RUN_FILE).is_file():
        return None
    from napari_wsss.inference.change import finish_change
    from napari_wsss.inference.result import read_run

    finish_change(path)
    return read_run(path)


def unfinished_text(path: Path) -> str:
    """Return what to tell of a result that was opened before it was finished."""
    return (
        f"{path.name} is not finished; what is done so far is shown. Segment the slide again "
        "with the same model and settings into the same folder: it goes on where it stopped."
    )


def own_layer(
    group: zarr.Group, name: str, run: Mapping[str, Any] | None, path: Path
) -> LayerData | None:
    """Return the layer of an image that this package stored; None if it is an RGB image.

    Parameters
    ----------
    group
        The image.
    name
        Name of the layer; channels add theirs.
    run, path
        The run record, and the folder of the result, for results.

    Raises
    ------
    SlideError, DataError
        If metadata are damaged.
    """
    from napari_wsss.slides import open_labels, open_pyramid
    from napari_wsss.slides.readers.ome_zarr import geometry_of, multiscale_of

    ome: Mapping[str, Any] = dict(group.attrs)["ome"]  # type: ignore[assignment]
    if "image-label" in ome:
        stored = open_labels(group)
        data, options, kind = labels_layer(
            _levels(stored.levels, run, "mode"),
            name,
            stored.mpp,
            stored.classes,
            stored.translation_px,
        )
        return data, {**options, **_told(run, path)}, kind
    channels = ome.get("omero", {}).get("channels", [])
    names = [str(channel["label"]) for channel in channels]
    if names == ["red", "green", "blue"]:
        return None
    levels = _levels(open_pyramid(group).levels, run, "mean")
    mpp, shift = geometry_of(multiscale_of(group, name))
    if levels[0].ndim == 2:
        if run is None:
            return map_layer(levels, [name], mpp, translation_px=shift)
        data, options, kind = map_layer(levels, [f"{name} uncertainty"], mpp, translation_px=shift)
        # It would cover the slide; whoever asks for it shows it.
        return data, {**options, **uncertainty_look(), **_told(run, path), "visible": False}, kind
    return map_layer(
        levels,
        [f"{name} {label}" for label in names],
        mpp,
        colormaps=[f"#{channel['color']}" for channel in channels],
        translation_px=shift,
    )


def _told(run: Mapping[str, Any] | None, path: Path) -> dict[str, Any]:
    """Return what a layer tells of its result: where it is, and whether it is finished."""
    if run is None:
        return {}
    y, x = run["downsample"]
    told = {
        "downsample": (float(y), float(x)),
        "result": str(path.absolute()),
        "complete": bool(run.get("complete")),
    }
    return {"metadata": {METADATA: told}}


def _levels(
    stored: Sequence[zarr.Array], run: Mapping[str, Any] | None, method: Method
) -> list[Any]:
    """Return the levels to show; those that an unfinished run did not make yet, made lazily."""
    levels: list[Any] = list(stored)
    made = run is None or run.get("complete") or len(levels) == 1
    # A run that is watched keeps all levels up to date; then the last has been written.
    if made or stored[-1].nchunks_initialized:
        return levels
    for at in range(1, len(levels)):
        levels[at] = _halved(levels[at - 1], method)
    return levels


def _halved(finer: Any, method: Method) -> Any:
    """Return the level above `finer` as a dask array: the same as a finished run writes."""
    import dask.array as da

    from napari_wsss.slides.downsample import halve

    if not isinstance(finer, da.Array):
        # A name of its own: napari's cache would show an earlier state of the same folder.
        finer = da.from_array(finer, chunks=finer.chunks, name=False)
    # Whole pairs of pixels in every chunk but the last of a row or column.
    chunks = finer.chunks[:-2] + tuple(_even_chunks(n) for n in finer.shape[-2:])
    finer = finer.rechunk(chunks)
    halves = finer.chunks[:-2] + tuple(tuple(-(-n // 2) for n in c) for c in finer.chunks[-2:])
    return da.map_blocks(halve, finer, method, [_NOT_COMPUTED], chunks=halves, dtype=np.uint8)


def _even_chunks(length: int, side: int = 1024) -> tuple[int, ...]:
    whole, rest = divmod(length, side)
    return (side,) * whole + ((rest,) if rest else ())
