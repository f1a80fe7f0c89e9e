"""The slide: a lazy pyramid of RGB levels with its resolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import MissingResolutionError, SlideError
from napari_wsss.slides.fingerprint import is_same_file
from napari_wsss.slides.pixels import WHITE, check_downsamples, check_dtype, check_size
from napari_wsss.slides.readers.base import Reader
from napari_wsss.slides.resolution import validated_mpp

__all__ = ["Slide"]

#: Side of dask chunks aimed at, and the most chunks a level may have (px, chunks).
_CHUNK_PX, _MAX_CHUNKS = 1024, 100_000


@dataclass(frozen=True, eq=False)
class Slide:
    """A slide or image; make one with `open_slide`.

    Attributes
    ----------
    name
        Stem of the file name, or the name given.
    levels
        Dask arrays (H, W, 3) uint8, finest first.
    mpp
        µm/px of level 0; None if the source does not say (it is never assumed).
    path
        Where it was read from; None for arrays.
    properties
        What the source says about itself (``vendor``, ``objective``, raw resolutions ...).
    """

    name: str
    levels: tuple[da.Array, ...]
    mpp: float | None = None
    path: Path | None = None
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _reader: Reader | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        where = str(self.path or self.name)
        if not self.levels:
            raise SlideError(f"{where} has no levels.")
        for i, level in enumerate(self.levels):
            if level.ndim != 3 or level.shape[2] != 3:
                raise SlideError(f"{where}: level {i} has shape {level.shape}, not (H, W, 3).")
            check_dtype(level.dtype, where)
            check_size(level.shape[0], level.shape[1], f"{where}: level {i}")
        check_downsamples([level.shape[:2] for level in self.levels], where)
        if self.mpp is not None:
            object.__setattr__(self, "mpp", validated_mpp(self.mpp))

    @classmethod
    def from_reader(
        cls, reader: Reader, name: str, mpp: float | None = None, path: Path | None = None
    ) -> Self:
        """Make a slide on top of `reader`; `mpp` replaces what the reader found."""
        for i, (height, width) in enumerate(reader.shapes):
            check_size(height, width, f"{reader.where}: level {i}")
        return cls(
            name,
            tuple(_lazy_level(reader, i) for i in range(len(reader.shapes))),
            reader.mpp if mpp is None else validated_mpp(mpp),
            path,
            dict(reader.properties),
            reader,
        )

    # -- what it is -----------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of level 0."""
        height, width, _ = self.levels[0].shape
        return int(height), int(width)

    @cached_property
    def downsamples(self) -> tuple[tuple[float, float], ...]:
        """Level-0 pixels per pixel of each level, as (dy, dx)."""
        return check_downsamples([level.shape[:2] for level in self.levels], self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash (hex) that is the same in every run and changes with the content.

        Files: sha256 of size and samples, see `file_fingerprint`. Arrays: of shape, type and
        a sample or, for lazy ones, the name of the dask graph. Compare one that was stored with
        `was`.
        """
        if self._reader is not None:
            return self._reader.fingerprint()
        import hashlib

        text = repr([(level.shape, level.name) for level in self.levels])
        return hashlib.sha256(text.encode()).hexdigest()

    def was(self, fingerprint: str) -> bool:
        """Whether a stored fingerprint is of this slide, by this version or an earlier one."""
        return is_same_file(fingerprint, self.fingerprint, self.path)

    def with_mpp(self, mpp: float) -> Slide:
        """Return the same slide with another resolution (µm/px of level 0)."""
        return replace(self, mpp=validated_mpp(mpp))

    def require_mpp(self) -> float:
        """Return µm/px of level 0.

        Raises
        ------
        MissingResolutionError
            If it is unknown, saying how to give it.
        """
        if self.mpp is not None:
            return self.mpp
        raw = {k: v for k, v in self.properties.items() if "mpp" in k.lower()}
        found = f" What it says is not usable: {raw}." if raw else ""
        raise MissingResolutionError(
            f"{self.path or self.name} does not say how many micrometres a pixel measures, and "
            f"this step needs it.{found} Give it: --mpp 0.25 on the command line, or "
            "open_slide(..., mpp=0.25)."
        )

    # -- its pixels -----------------------------------------------------------------

    def read_region(
        self, level: int, y: int, x: int, height: int, width: int
    ) -> NDArray[np.uint8]:
        """Read a rectangle of one level; safe to call from many threads.

        Parameters
        ----------
        level
            Index into `levels`.
        y, x
            First row and column, in pixels of that level; may lie outside the slide.
        height, width
            Size in pixels of that level.

        Returns
        -------
        NDArray
            (height, width, 3) uint8, white outside the slide.

        Raises
        ------
        SlideError
            If there is no such level, or the file cannot be decoded there.
        """
        if not 0 <= level < len(self.levels):
            raise SlideError(f"{self.name} has levels 0 to {len(self.levels) - 1}, not {level}.")
        if height < 0 or width < 0:
            raise SlideError(f"A region of {height} x {width} px cannot be read.")
        full_height, full_width, _ = self.levels[level].shape
        y0, y1 = max(y, 0), min(y + height, full_height)
        x0, x1 = max(x, 0), min(x + width, full_width)
        if y0 >= y1 or x0 >= x1:
            return np.full((height, width, 3), WHITE, np.uint8)
        inside = self._read(level, y0, x0, y1 - y0, x1 - x0)
        if inside.shape == (height, width, 3):
            return inside
        region = np.full((height, width, 3), WHITE, np.uint8)
        region[y0 - y : y1 - y, x0 - x : x1 - x] = inside
        return region

    def _read(self, level: int, y: int, x: int, height: int, width: int) -> NDArray[np.uint8]:
        if self._reader is not None:
            return self._reader.read(level, y, x, height, width)
        part = self.levels[level][y : y + height, x : x + width]
        return np.asarray(part.compute(scheduler="synchronous"))

    # -- its files ------------------------------------------------------------------

    def close(self) -> None:
        """Close the files behind the slide; it cannot be read afterwards."""
        if self._reader is not None:
            self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _LevelView:
    """One level of a reader, indexed like an array: what dask reads its chunks from."""

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, reader: Reader, level: int) -> None:
        self.reader = reader
        self.level = level
        self.shape = (*reader.shapes[level], 3)

    def __getitem__(self, index: tuple[slice, ...]) -> NDArray[np.uint8]:
        rows, columns, channels = index
        y0, y1, _ = rows.indices(self.shape[0])
        x0, x1, _ = columns.indices(self.shape[1])
        block = self.reader.read(self.level, y0, x0, max(y1 - y0, 0), max(x1 - x0, 0))
        return block[:: rows.step or 1, :: columns.step or 1, channels]


def _lazy_level(reader: Reader, level: int) -> da.Array:
    """Return a level as a dask array whose chunks are whole tiles of the file."""
    height, width = reader.shapes[level]
    side = _CHUNK_PX
    while -(-height // side) * -(-width // side) > _MAX_CHUNKS:
        side *= 2
    chunks = tuple(t * max(1, side // t) if t <= side else side for t in reader.tiles[level])
    return da.from_array(
        _LevelView(reader, level),
        chunks=(*chunks, 3),
        name=False,
        fancy=False,
        meta=np.empty((0, 0, 0), np.uint8),
    )
