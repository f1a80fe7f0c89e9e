"""Layers side by side in napari's grid, and the user's own layout put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Layer
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_wsss.panels.support.layers import LayerData, mark_shown

if TYPE_CHECKING:
    import napari

__all__ = ["Cell", "CellGrid"]

#: What the layers on top share, so that one control changes them all.
_LINKED = ("opacity", "contrast_limits", "gamma")
_SPACING_PX = 6
#: Share of a cell that its picture fills.
_FILLED = 0.95


@dataclass(frozen=True)
class Cell:
    """One cell of the grid: a picture, and what lies over it.

    Attributes
    ----------
    under, over
        Layer data. The name of `over` is written in the cell.
    linked
        Whether opacity, limits and gamma of `over` go with those of the other linked cells.
    """

    under: LayerData
    over: LayerData
    linked: bool = True


class CellGrid:
    """Shows cells side by side, with one camera; `close` puts the viewer back as it was.

    The cells' layers lie below the user's, which are hidden meanwhile: in a grid of two layers
    a cell, neither those nor layers that come later change which layers share a cell. Deleting
    a layer of the grid, or switching napari's grid off, closes it. Beside stacks, or where the
    viewer shows three dimensions, the plane of the cells is what is shown meanwhile.

    Parameters
    ----------
    viewer
        Where to show them.

    Attributes
    ----------
    closed
        Signal: the layout of the user is back.
    """

    closed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        self._viewer = viewer
        self._before: _Layout | None = None
        self._cells: tuple[Cell, ...] = ()
        self._layers: list[Layer] = []
        self._changing = False
        viewer.layers.events.removed.connect(self._removed)
        viewer.canvas.grid.events.enabled.connect(self._toggled)

    @property
    def showing(self) -> bool:
        """Whether cells are shown."""
        return self._before is not None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of the cells: under, over, under, over ..."""
        return tuple(self._layers)

    def over(self, i: int) -> Layer:
        """Return the layer on top of cell `i`."""
        return self._layers[2 * i + 1]

    def show(self, cells: Sequence[Cell], *, fit: bool = True) -> None:
        """Show cells in place of those that are shown.

        Parameters
        ----------
        cells
            One at least.
        fit
            Move the camera so that the cells' pictures are in view.
        """
        with self._changes():
            if self._before is None:
                self._before = _Layout.of(self._viewer)
            if self._layers and _alike(self._cells, cells):
                self._replace(cells)
            else:
                self._remove()
                self._insert(cells)
            self._cells = tuple(cells)
            _show_plane(self._viewer)
            grid = self._viewer.canvas.grid
            grid.stride, grid.shape, grid.spacing = 2, (-1, -1), _SPACING_PX
            grid.enabled = True
        if fit:
            self._fit()

    def close(self) -> None:
        """Remove the cells and put the user's layout back; nothing happens without cells."""
        if self._before is None:
            return
        before, self._before = self._before, None
        with self._changes():
            self._viewer.canvas.grid.enabled = False
            self._remove()
            self._cells = ()
            before.restore(self._viewer)
        self.closed.emit()

    def disconnect_viewer(self) -> None:
        """Close, and stop following the viewer; for panels that go while it stays."""
        self.close()
        self._viewer.layers.events.removed.disconnect(self._removed)
        self._viewer.canvas.grid.events.enabled.disconnect(self._toggled)

    # -- layers -----------------------------------------------------------------------

    def _insert(self, cells: Sequence[Cell]) -> None:
        linked = []
        for cell in cells:
            under, over = (
                Layer.create(data, mark_shown(options), kind)
                for data, options, kind in (cell.under, cell.over)
            )
            over.name_overlay.visible = True
            if hasattr(over, "colorbar"):
                over.colorbar.visible = True
                over.colorbar.size, over.colorbar.font_size = (10, 80), 8
                over.colorbar.position = "bottom_right"  # names may be as wide as the cell
            for layer in (under, over):
                self._viewer.layers.insert(len(self._layers), layer)
                self._layers.append(layer)
            if cell.linked:
                linked.append(over)
        if len(linked) > 1:
            self._viewer.layers.link_layers(linked, _LINKED)
        self._viewer.layers.selection.active = self._layers[1]

    def _replace(self, cells: Sequence[Cell]) -> None:
        pairs = [data for cell in cells for data in (cell.under, cell.over)]
        for layer, (pixels, options, _) in zip(self._layers, pairs, strict=True):
            layer.data = pixels
            layer.scale = options.get("scale", (1, 1))
            layer.translate = options.get("translate", (0, 0))
            layer.name = options["name"]

    def _remove(self) -> None:
        layers, self._layers = self._layers, []
        if layers:
            self._viewer.layers.unlink_layers(layers)
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)

    def _fit(self) -> None:
        """Move the camera so that the picture of a cell fills it.

        Not by the viewer's `fit_to_view`: it cannot fit to layers that have fewer dimensions
        than others in the viewer.
        """
        viewer, under = self._viewer, self._layers[0]
        world = np.asarray(under.extent.world, float)[:, -2:]  # from centre to centre of pixels
        pixel = np.asarray(under.scale, float)[-2:]
        units = viewer.layers.units
        if units is not None:  # the camera moves in those of the viewer
            factor = [
                float((1 * own).to(common).magnitude)
                for own, common in zip(under.units[-2:], units[-2:], strict=True)
            ]
            world, pixel = world * factor, pixel * factor
        size = world[1] - world[0] + pixel
        room = np.asarray(viewer.canvas.viewbox_size(viewer.layers), float)
        viewer.scene.camera.center = (0.0, *world.mean(0).tolist())
        viewer.scene.camera.zoom = _FILLED * float((room / size).min())

    # -- following the viewer -----------------------------------------------------------

    @contextmanager
    def _changes(self) -> Iterator[None]:
        """Mark that the changes are our own, and let napari draw anew once, after all of them.

        After each layer that goes it would also collect garbage, which takes seconds for a
        grid beside a loaded network.
        """
        self._changing = True
        try:
            with self._viewer.layers.batched_update():
                yield
        finally:
            self._changing = False

    def _removed(self, event: Any) -> None:
        ours = any(event.value is layer for layer in self._layers)
        if ours and not self._changing:
            # Later: the viewer may be in the middle of removing several.
            QTimer.singleShot(0, self.close)

    def _toggled(self, event: Any = None) -> None:
        if self.showing and not self._changing and not self._viewer.canvas.grid.enabled:
            self.close()


@dataclass(frozen=True)
class _Layout:
    """What the grid changes of a viewer."""

    visible: tuple[tuple[Layer, bool], ...]
    selected: frozenset[Layer]
    grid: dict[str, Any]
    dims: dict[str, Any]
    camera: dict[str, Any]

    @classmethod
    def of(cls, viewer: napari.viewer.Viewer) -> _Layout:
        """Remember the layout of a viewer, and hide its layers."""
        camera, grid, dims = viewer.scene.camera, viewer.canvas.grid, viewer.dims
        layout = cls(
            tuple((layer, layer.visible) for layer in viewer.layers),
            frozenset(viewer.layers.selection),
            {name: getattr(grid, name) for name in ("stride", "shape", "spacing", "enabled")},
            {name: getattr(dims, name) for name in ("order", "point", "ndisplay")},
            {name: getattr(camera, name) for name in ("center", "zoom", "angles")},
        )
        # The grid of the user would jump with every layer that comes.
        grid.enabled = False
        for layer, _ in layout.visible:
            layer.visible = False
        return layout

    def restore(self, viewer: napari.viewer.Viewer) -> None:
        """Put the layout back; layers that are gone stay gone."""
        there = [layer for layer, _ in self.visible if layer in viewer.layers]
        for layer, visible in self.visible:
            if layer in there:
                layer.visible = visible
        viewer.layers.selection.clear()
        viewer.layers.selection.update(layer for layer in there if layer in self.selected)
        for name, value in self.grid.items():
            setattr(viewer.canvas.grid, name, value)
        same = len(self.dims["order"]) == viewer.dims.ndim  # no stack came or went
        for name, value in self.dims.items():
            if same or name == "ndisplay":
                setattr(viewer.dims, name, value)
        for name, value in self.camera.items():
            setattr(viewer.scene.camera, name, value)


def _show_plane(viewer: napari.viewer.Viewer) -> None:
    """Show the plane in which pictures lie: the last two dimensions, which all layers share."""
    viewer.dims.ndisplay = 2
    viewer.dims.order = tuple(range(viewer.dims.ndim))


def _alike(old: Sequence[Cell], new: Sequence[Cell]) -> bool:
    """Whether the layers of `old` can take the pixels of `new`."""

    def kinds(cells: Sequence[Cell]) -> list[tuple[Any, ...]]:
        return [
            (kind, *(options.get(name) for name in ("units", "colormap", "features")))
            for cell in cells
            for _, options, kind in (cell.under, cell.over)
        ]

    single = not any(isinstance(cell.under[0], list) for cell in (*old, *new))
    return single and kinds(old) == kinds(new)
