"""Class maps of a whole slide, shown while they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.panels.cams_cells import map_options
from napari_wsss.panels.cams_grid import Cell
from napari_wsss.panels.support.layers import LayerData, map_layer
from napari_wsss.panels.support.live import Place

if TYPE_CHECKING:
    import zarr
    from napari.layers import Image, Layer

    from napari_wsss.classes import ClassTable

__all__ = ["SlideMapsView"]

_NOT_COMPUTED, _LARGEST = 255, 254


class SlideMapsView:
    """The cells of a slide's class maps, finished or growing.

    Parameters
    ----------
    path
        The folder of the maps.
    classes
        Of the classifier.
    slide
        The layer of the slide.

    Raises
    ------
    SlideError
        If there are no maps at `path`.

    Attributes
    ----------
    complete
        Whether they were finished when they were opened.
    slide
        The layer of the slide.
    """

    def __init__(self, path: Path, classes: ClassTable, slide: Image) -> None:
        from napari_wsss.inference.result import read_run
        from napari_wsss.slides import open_pyramid

        run = read_run(path)
        self.path = path
        self.complete = bool(run.get("complete"))
        self._classes = classes
        self.slide = slide
        self._levels: Sequence[zarr.Array] = open_pyramid(path).levels
        dy, dx = run["downsample"]
        self.downsample = float(dy), float(dx)
        self._place = Place.of(slide)
        # napari reads the coarsest level once and keeps it: one array that changes in place.
        self._coarsest = _evidence(np.asarray(self._levels[-1][...]))
        self._shown: list[Layer] = []

    def cells(self) -> list[Cell]:
        """Return one cell per class, the slide under its map."""
        slide = self.slide
        pixels = list(slide.data) if slide.multiscale else slide.data
        options = {"rgb": True, "multiscale": slide.multiscale, **self._place.options((1, 1))}
        cells = []
        for k, name in enumerate(self._classes.names):
            under: LayerData = (pixels, {**options, "name": f"{slide.name} under {name}"}, "image")
            cells.append(Cell(under, self._over(k, name)))
        return cells

    def follow(self, layers: Sequence[Layer]) -> None:
        """Refresh these layers, made from `cells`, by `refresh`."""
        self._shown = list(layers)

    def refresh(self) -> None:
        """Show what was stored meanwhile."""
        self._coarsest[...] = _evidence(np.asarray(self._levels[-1][...]))
        for layer in self._shown:
            layer.refresh(extent=False)

    def _over(self, k: int, name: str) -> LayerData:
        levels: list[Any] = [_Channel(level, k) for level in self._levels[:-1]]
        levels.append(self._coarsest[k])
        data, options, kind = map_layer(levels, [name], None)
        options = {**map_options(options, name), **self._place.options(self.downsample)}
        # From undecided to sure: below one half there is no evidence.
        return data, {**options, "contrast_limits": (0.5, 1)}, kind


class _Channel:
    """One class of a stored level, as evidence from 0 to 1, read where it is looked at.

    Not a dask array: napari's cache would go on showing what was there before.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, level: zarr.Array, k: int) -> None:
        self._level, self._k = level, k
        self.shape = tuple(level.shape[1:])
        self.size = int(np.prod(self.shape))

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        index = index if isinstance(index, tuple) else (index,)
        return _evidence(np.asarray(self._level[(self._k, *index)]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:, :], dtype)


def _evidence(stored: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return stored maps as 0 to 1, 0 where nothing was computed."""
    known = np.where(stored == _NOT_COMPUTED, 0, stored).astype(np.float32)
    return known * np.float32(1 / _LARGEST)
