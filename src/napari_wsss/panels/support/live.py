"""A result that fills in on screen while it is made.

Three things keep it up to date and quick. Finer levels are zarr arrays, which read anew what is
shown; dask would show what its cache holds. The coarsest level, which napari asks for once and
keeps, is an array in memory that is updated in place. And nothing here computes: the levels are
made by the run itself.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.panels.support.layers import METADATA, labels_layer
from napari_wsss.panels.support.shown_results import ShownResult

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["LiveResult", "Place", "ViewCentre", "warm_up"]

#: Errors of a chunk that is being replaced, or of a folder that somebody deletes.
_UNREADABLE = (OSError, ValueError, RuntimeError)


@dataclass(frozen=True)
class Place:
    """Where a slide layer lies in the world; outlives the layer.

    Attributes
    ----------
    scale, translate
        World units per pixel of level 0, and the centre of its first pixel, (y, x).
    units, axis_labels
        Of the layer's axes.
    """

    scale: tuple[float, float]
    translate: tuple[float, float]
    units: tuple[str, str]
    axis_labels: tuple[str, str]

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """Return the place of a layer that `slide_problem` finds nothing wrong with."""
        # Such a layer is neither turned nor sheared, but its affine may shift it.
        shift = np.asarray(layer.affine.translate, float)[-2:]
        y, x = (np.asarray(layer.translate, float)[-2:] + shift).tolist()
        height, width = np.asarray(layer.scale, float)[-2:].tolist()
        units = tuple(str(u) for u in layer.units[-2:])
        labels = tuple(layer.axis_labels[-2:])
        return cls((height, width), (y, x), (units[0], units[1]), (labels[0], labels[1]))

    def pixel_at(self, y: float, x: float) -> tuple[float, float]:
        """Return the pixel (y, x) of level 0 at a point of the world."""
        return (
            (y - self.translate[0]) / self.scale[0],
            (x - self.translate[1]) / self.scale[1],
        )

    def options(self, downsample: tuple[float, float]) -> dict[str, Any]:
        """Return what lays a result with pixels of `downsample` slide pixels over the slide."""
        (sy, sx), (dy, dx) = self.scale, downsample
        return {
            "scale": (sy * dy, sx * dx),
            # The first pixel of the result covers the first `downsample` pixels of the slide.
            "translate": (
                self.translate[0] + sy * (dy - 1) / 2,
                self.translate[1] + sx * (dx - 1) / 2,
            ),
            "units": self.units,
            "axis_labels": self.axis_labels,
        }


class ViewCentre:
    """The middle of what the viewer shows, as a pixel of a slide, for a thread to ask for.

    Parameters
    ----------
    viewer
        Followed until `disconnect`.
    place
        Of the slide.

    Attributes
    ----------
    yx
        Pixel (y, x) of level 0; None if the slide's plane is not what is shown. A plain
        attribute, which a thread may read at any time.
    """

    def __init__(self, viewer: napari.viewer.Viewer, place: Place) -> None:
        self._viewer, self._place = viewer, place
        self.yx: tuple[float, float] | None = None
        self._events = (
            viewer.scene.camera.events.center,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
        )
        for emitter in self._events:
            emitter.connect(self.update)
        self.update()

    def update(self, event: object = None) -> None:
        """Read the camera anew; called whenever it moves."""
        dims = self._viewer.dims
        shown = dict(
            zip(
                dims.displayed,
                self._viewer.scene.camera.center[-len(dims.displayed) :],
                strict=True,
            )
        )
        y, x = shown.get(dims.ndim - 2), shown.get(dims.ndim - 1)
        # Layers share the last axes: a slide among stacks lies in the last two.
        self.yx = None if y is None or x is None else self._place.pixel_at(y, x)

    def disconnect(self) -> None:
        """Stop following the viewer; `yx` keeps its last value."""
        for emitter in self._events:
            emitter.disconnect(self.update)


class LiveResult(ShownResult):
    """A segmentation that may still be growing.

    Parameters
    ----------
    viewer
        Gets the layers: the labels at once, the uncertainty above them when it is asked for.
    path
        ``NAME.ome.zarr``, with its arrays created.
    place
        Of the slide.
    visible
        Whether the labels are drawn at once. Adding a layer and drawing it for the first time take
        an eighth of a second each; who shows it later lets clicks be answered between the two.

    Raises
    ------
    SlideError, DataError
        If there is no such result, or it is damaged.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, path: Path, place: Place, *, visible: bool = True
    ) -> None:
        from napari_wsss.inference.result import LABELS, read_run
        from napari_wsss.slides import open_labels

        y, x = read_run(path)["downsample"]
        self._downsample = float(y), float(x)
        stored = open_labels(path / LABELS)
        self._levels = _Levels(stored.levels)
        self._doubt: _Levels | None = None
        data, options, _ = labels_layer(self._levels.shown, "", None, stored.classes)
        from napari.layers import Labels

        laid = {
            **place.options(self._downsample),
            "metadata": {METADATA: {"downsample": self._downsample, "result": str(path)}},
        }
        labels = Labels(data, **{**options, **laid, "opacity": 0.5, "visible": visible})
        super().__init__(viewer, path, stored.classes, labels)
        labels.name = f"{self.name} segmentation"
        viewer.add_layer(labels)
        viewer.layers.selection.active = self.labels

    def appear(self) -> None:
        """Show the labels, if they were not drawn at once and are still there."""
        if self.labels in self._viewer.layers:
            self.labels.visible = True

    def still_shows(self, path: Path) -> bool:
        """Whether the labels are there and fit what is at `path` now.

        Adding them anew takes a part of a second of the viewer's time, and would undo what the
        user changed about them.
        """
        from napari_wsss.inference.result import LABELS, read_run
        from napari_wsss.slides import open_labels

        if path != self.path or self.labels not in self._viewer.layers:
            return False
        stored = open_labels(path / LABELS)
        return (
            stored.classes == self.classes
            and stored.levels[0].shape == self._levels.shape
            and tuple(read_run(path)["downsample"]) == self._downsample
        )

    def refresh(self, *, thumbnail: bool = False) -> None:
        """Show what was stored since; call it up to ten times a second, in the main thread."""
        there = self.layers
        for layer, levels in ((self.labels, self._levels), (self.uncertainty, self._doubt)):
            if layer is not None and levels is not None and layer in there:
                levels.update()
                # The place stays, so nothing else in the viewer must be computed anew, and a
                # thumbnail is not worth its milliseconds five times a second.
                layer.refresh(extent=False, highlight=False, thumbnail=thumbnail)

    def take_over(self, earlier: Iterable[Layer]) -> None:
        """Take the place of layers that showed this result until now.

        They go once the new ones are there, so that who has chosen this result in a list of
        layers stays with it.
        """
        for layer in earlier:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        self.labels.name = f"{self.name} segmentation"  # not numbered any more

    def _uncertainty_levels(self) -> list[Any]:
        from napari_wsss.slides import open_pyramid

        self._doubt = _Levels(open_pyramid(self.path).levels)
        return self._doubt.shown


@functools.cache
def warm_up() -> None:
    """Load what shows a result, and compute what napari computes once for layers of labels.

    Call it in a thread, where it stalls nothing: the first layer of labels in a process
    otherwise takes three seconds of the viewer's time.
    """
    from napari.layers import Labels

    import napari_wsss.inference.status
    import napari_wsss.slides  # noqa: F401

    classes = ClassTable.from_names(["a", "b"])
    data, options, _ = labels_layer([np.zeros((1, 1), np.uint8)], "", None, classes)
    Labels(data, **options)
    with contextlib.suppress(ImportError):
        # The patterns of dashed lines, which it makes for the outline of a polygon to come; kept
        # by vispy once they are made.
        from vispy.visuals.line.dash_atlas import DashAtlas

        DashAtlas()


class _Levels:
    """The levels of a pyramid as napari shows them: the last one in memory."""

    def __init__(self, stored: Iterable[Any]) -> None:
        *finer, self._stored = stored
        self.shape: tuple[int, ...] = (*finer, self._stored)[0].shape
        self._coarsest: NDArray[np.uint8] = np.asarray(self._stored[:])
        self.shown: list[Any] = [*finer, self._coarsest]

    def update(self) -> None:
        """Copy the coarsest level, a chunk or two, into the array that napari holds."""
        try:
            self._coarsest[...] = self._stored[:]
        except _UNREADABLE:
            return  # shown as it was; the run itself tells the user
