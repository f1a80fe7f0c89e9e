"""Tiles of tissue without labels, from slides, images and patch sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError, SettingsError
from napari_wsss.jobs import CancelToken, Job, Log, Progress
from napari_wsss.patches.grid import PatchGrid, PatchReader
from napari_wsss.settings import PretrainSettings
from napari_wsss.slides import Slide, tissue_mask
from napari_wsss.training.ssl_sources import Source, TileSource, find_sources

__all__ = ["Tiles", "tiles_job"]

#: µm/px that `tile_mpp` = 'auto' takes from slides; 20x, where nuclei show their texture.
AUTO_MPP = 0.5
#: Tiles are kept in memory, all of them.
MOST_BYTES = 8 * 1024**3


@dataclass(frozen=True, eq=False)
class Tiles:
    """Tiles to pretrain on, in memory.

    Attributes
    ----------
    pixels
        (N, S, S, 3) uint8.
    sources
        How many slides and images they come from.
    """

    pixels: NDArray[np.uint8]
    sources: int

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the pixels."""
        digest = hashlib.sha256(repr(self.pixels.shape).encode())
        digest.update(self.pixels.data)
        return digest.hexdigest()


def tiles_job(
    given: TileSource | Iterable[TileSource],
    settings: PretrainSettings,
    *,
    mpp: float | None = None,
    cancel: CancelToken | None = None,
) -> Job[Tiles]:
    """Find the tissue and read tiles of it, as a job.

    Parameters
    ----------
    given
        See `find_sources`.
    settings
        Size, µm/px, number and tissue of the tiles, and the seed of their choice.
    mpp
        µm/px of the slides and images (level 0), where they do not say it or say it wrongly.
        Labelled patches are used as they are.
    cancel
        Stops the job.

    Yields
    ------
    Event
        Progress of 'Tissue' in slides and images, and of 'Tiles'.

    Raises
    ------
    DataError
        If there is no tissue, or less than a batch of tiles.
    SlideError
        If one of them cannot be read; MissingResolutionError if `tile_mpp` is a number and
        a slide does not say its µm/px.
    """
    cancel = cancel or CancelToken()
    size = settings.tile_px
    if settings.tiles * size**2 * 3 > MOST_BYTES:
        raise SettingsError(
            f"{settings.tiles} tiles of {size} px do not fit into {MOST_BYTES >> 30} GiB of "
            "memory. Lower tiles or tile_px."
        )
    sources = find_sources(given, settings.tiles, settings.seed)
    counts, small, bare = [], [], []
    cells = []
    for done, source in enumerate(sources, 1):
        cancel.raise_if_cancelled()
        found = _tissue_cells(source, settings, mpp)
        cells.append(found.cells)
        counts.append(len(found.cells))
        small += [source.name] if found.too_small else []
        bare += [source.name] if not (found.too_small or len(found.cells)) else []
        yield Progress("Tissue", done, len(sources))
    _check_enough(sum(counts), small, bare, len(sources), settings)
    rng = np.random.default_rng(settings.seed)
    chosen = np.sort(rng.permutation(sum(counts))[: settings.tiles])
    starts = np.concatenate([[0], np.cumsum(counts)])
    pixels = np.empty((len(chosen), size, size, 3), np.uint8)
    used = 0
    for i, source in enumerate(sources):
        mine = np.flatnonzero((chosen >= starts[i]) & (chosen < starts[i + 1]))
        if not len(mine):
            continue
        used += 1
        with source.open() as slide:
            reader = PatchReader(*_grid(slide, source, settings, mpp))
            for at in mine:
                cancel.raise_if_cancelled()
                pixels[at] = reader(cells[i][chosen[at] - starts[i]])
                yield Progress("Tiles", int(at) + 1, len(chosen))
    left_out = len(small) + len(bare)
    yield Log(
        f"{len(chosen)} tiles of {size} px from {used} slides and images"
        + (f"; {left_out} have no tile with tissue" if left_out else "")
    )
    return Tiles(pixels, used)


class _Cells(NamedTuple):
    """Cells of a source's grid that hold enough tissue."""

    cells: NDArray[np.int64]
    too_small: bool = False


def _tissue_cells(source: Source, settings: PretrainSettings, mpp: float | None) -> _Cells:
    with source.open() as slide:
        try:
            resolved, grid = _grid(slide, source, settings, mpp)
        except DataError:  # no tile fits
            return _Cells(np.empty(0, np.int64), too_small=True)
        if source.white_is_tissue or settings.min_tissue == 0:
            return _Cells(np.arange(len(grid)))
        share = grid.tissue_share(tissue_mask(resolved))
    return _Cells(np.flatnonzero(share.reshape(-1) >= settings.min_tissue - 1e-6))


def _grid(
    slide: Slide, source: Source, settings: PretrainSettings, mpp: float | None
) -> tuple[Slide, PatchGrid]:
    """Return the slide with the µm/px that count, and the tiles over it.

    Raises
    ------
    DataError
        If no tile fits.
    """
    if mpp is not None and not source.patch:
        slide = slide.with_mpp(mpp)
    if source.patch or (slide.mpp is None and settings.tile_mpp == "auto"):
        # As they are: one µm/px stands for another on both sides.
        slide, wanted = slide.with_mpp(1.0), 1.0
    elif settings.tile_mpp == "auto":
        wanted = max(AUTO_MPP, slide.require_mpp())
    else:
        slide.require_mpp()
        wanted = float(settings.tile_mpp)
    return slide, PatchGrid.over(slide, settings.tile_px * wanted, wanted)


def _check_enough(
    n: int, small: list[str], bare: list[str], sources: int, settings: PretrainSettings
) -> None:
    size, share = settings.tile_px, settings.min_tissue
    if n == 0:
        reasons = []
        if small:
            reasons.append(f"{len(small)} are smaller than a tile (lower tile_px)")
        if bare:
            reasons.append(
                f"{len(bare)} have too little tissue (lower min_tissue, or choose others)"
            )
        raise DataError(
            f"No tile of {size} px with at least {share:.0%} tissue was found in {sources} "
            f"slides and images: {', '.join(reasons)}."
        )
    if n < settings.batch_size:
        raise DataError(
            f"Only {n} tiles of {size} px with at least {share:.0%} tissue were found in "
            f"{sources} slides and images; a batch needs {settings.batch_size} different ones. "
            "Add slides, or lower batch_size, tile_px or min_tissue."
        )
