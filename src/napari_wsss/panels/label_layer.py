"""What labelling draws over a slide: all patches, and the current one, as one layer.

One shape per patch would take napari seconds at 50,000 patches. A labels layer of a few
pixels per patch shows any number at once, with several classes side by side in each. The
frame of the current patch is drawn into it as well: a change of a few pixels is cheaper than
a layer of its own, and the fewer layers come and go, the better for napari's canvas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.patches import LEFT_OUT, PatchGrid, SlideLabels

if TYPE_CHECKING:
    import napari
    from napari.layers import Labels, Layer

__all__ = ["GridLayer", "cell_pixels", "render"]

#: Pixels per side of a patch, at most and at least, and of the whole drawing at most: more
#: than 4096 does not fit the textures of every machine.
_MOST_PX, _LEAST_PX, _TEXTURE_PX = 32, 2, 4096
#: Values of the drawing beside class index + 1: left out, corners of patches, and the two
#: lines of the frame, of which one shows on any tissue.
_OUT, _LINE, _DARK, _BRIGHT = 251, 252, 253, 254
#: Changes of up to so many patches are drawn alone, and of so few each for itself.
_FEW, _APART = 1024, 8
_COLORS: dict[int | None, str] = {
    _OUT: "#303030",
    _LINE: "#000000a0",
    _DARK: "#000000",
    _BRIGHT: "#ffffff",
}


def cell_pixels(grid: PatchGrid) -> int:
    """Return how many pixels per side a patch is drawn with."""
    return int(np.clip(_TEXTURE_PX // max(grid.rows, grid.columns), _LEAST_PX, _MOST_PX))


def render(
    out: NDArray[np.uint8],
    grid: PatchGrid,
    codes: NDArray[np.uint32],
    offered: NDArray[np.bool_],
    cells: NDArray[np.int64] | None = None,
) -> None:
    """Draw the state of patches.

    Parameters
    ----------
    out
        (rows * q, columns * q) with q of `cell_pixels`; drawn into.
    grid
        The patches.
    codes
        (rows * columns,) of `SlideLabels`.
    offered
        (rows * columns,) which patches are marked though unlabelled: those with tissue.
    cells
        Which patches; None for all.
    """
    q = cell_pixels(grid)
    blocks = out.reshape(grid.rows, q, grid.columns, q)
    chosen = np.arange(len(grid)) if cells is None else cells
    rows, columns = np.divmod(chosen, grid.columns)
    blocks[rows, :, columns, :] = _pictures(codes[chosen], offered[chosen], q)


def _pictures(codes: NDArray[np.uint32], offered: NDArray[np.bool_], q: int) -> NDArray[np.uint8]:
    """Return (n, q, q): what n patches look like."""
    # One state is a pair; offered patches get a bit that no code has.
    states = codes.astype(np.int64) | offered.astype(np.int64) << 32
    kinds, kind = np.unique(states, return_inverse=True)
    return np.stack([_picture(int(k) & 0xFFFFFFFF, bool(k >> 32), q) for k in kinds])[kind]


def _picture(code: int, offered: bool, q: int) -> NDArray[np.uint8]:
    """Return (q, q): marks at the corners, and a ring in the colours of the classes.

    The middle stays clear, so that the tissue can be judged under it.
    """
    picture = np.zeros((q, q), np.uint8)
    values = [_OUT] if code == LEFT_OUT else [k + 1 for k in range(31) if code >> k & 1]
    if offered or values:
        tick = max(1, q // 5)
        for edge in (picture[0], picture[:, 0]):
            edge[:tick] = _LINE
            edge[q - tick + 1 :] = _LINE
    # Two pixels are left for the frame of the current patch.
    inner = picture[2:-2, 2:-2] if q >= 8 else picture[1:, 1:] if q >= 4 else picture
    side = len(inner)
    if values:
        columns = np.arange(side)
        if len(values) <= 3:
            inner[:] = np.array(values)[columns * len(values) // side]
        else:  # a chequer: halves above and below
            upper, lower = values[: len(values) // 2], values[len(values) // 2 :]
            inner[: side // 2] = np.array(upper)[columns * len(upper) // side]
            inner[side // 2 :] = np.array(lower)[columns * len(lower) // side]
        if side >= 5:
            ring = max(1, side // 6)
            inner[ring:-ring, ring:-ring] = 0
    return picture


def _framed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (q, q) with the frame of the current patch around it."""
    framed = picture.copy()
    for inset, value in ((0, _DARK), (1, _BRIGHT))[: max(1, len(picture) // 4)]:
        end = len(picture) - 1 - inset
        framed[inset, inset : end + 1] = framed[end, inset : end + 1] = value
        framed[inset : end + 1, inset] = framed[inset : end + 1, end] = value
    return framed


class GridLayer:
    """The patches of a slide that is being labelled, as a layer.

    Parameters
    ----------
    viewer, slide_layer
        Where it is put, and over what.
    labels
        What it shows.
    offered
        (rows * columns,) bool: patches with tissue.

    Attributes
    ----------
    layer
        The layer; it may have been removed by the user.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        slide_layer: Layer,
        labels: SlideLabels,
        offered: NDArray[np.bool_],
    ) -> None:
        self._viewer, self._labels, self._offered = viewer, labels, offered
        self._scale = np.asarray(slide_layer.scale, float)
        # The affine of a slide that is neither turned nor sheared is a shift.
        self._shift = np.asarray(slide_layer.translate, float) + np.asarray(
            slide_layer.affine.translate, float
        )
        grid = labels.grid
        self._q = cell_pixels(grid)
        self._picture = np.zeros((grid.rows * self._q, grid.columns * self._q), np.uint8)
        render(self._picture, grid, labels.codes, offered)
        step = np.array(grid.step_px) / self._q
        self.layer: Labels = viewer.add_labels(
            self._picture,
            name=f"patches of {slide_layer.name}",
            scale=self._scale * step,
            # Centre of the drawing's first pixel, which covers `step` pixels of the slide.
            translate=self._world((step - 1) / 2),
            units=slide_layer.units,
            axis_labels=slide_layer.axis_labels,
            opacity=0.7,
            blending="translucent_no_depth",
            **self._looks(),
        )
        # Painting on it with napari's tools would change the picture and no label.
        self.layer.editable = False
        for key in ("Ctrl-Z", "Ctrl-Shift-Z"):  # would undo the picture alone
            self.layer.bind_key(key, lambda _: None, overwrite=True)
        self._current: int | None = None

    @property
    def shown(self) -> bool:
        """Whether it is still among the viewer's layers."""
        return self.layer in self._viewer.layers

    def redraw(self, cells: NDArray[np.int64] | None = None) -> None:
        """Show what changed; all patches if `cells` is None."""
        if not self.shown:
            return
        if cells is not None and len(cells) <= _FEW:
            self._redraw_few(cells)
            return
        render(self._picture, self._labels.grid, self._labels.codes, self._offered, cells)
        self.layer.refresh(extent=False, thumbnail=cells is None, highlight=False)
        if self._current is not None:
            self._redraw_few(np.array([self._current]))

    def recolor(self) -> None:
        """Show names and colours of the classes as they are now."""
        if self.shown:
            looks = self._looks()
            self.layer.colormap = looks["colormap"]
            self.layer.features = looks["features"]

    def point_at(self, cell: int | None, *, follow: bool = False, zoom: bool = False) -> None:
        """Frame a patch.

        Parameters
        ----------
        cell
            The patch; None for none.
        follow
            Bring it to the middle of the view.
        zoom
            Zoom so that the patch takes a good part of the view.
        """
        changed = sorted({c for c in (self._current, cell) if c is not None})
        self._current = cell
        if not self.shown:
            return
        self._redraw_few(np.array(changed, np.int64))
        if cell is None:
            return
        step = np.array(self._labels.grid.step_px)
        first = np.array(divmod(cell, self._labels.grid.columns)) * step
        camera = self._viewer.scene.camera
        if follow:
            camera.center = (0, *self._world(first + (step - 1) / 2))
        if zoom:
            # About 240 px of the screen, which shows the neighbours as well.
            camera.zoom = 240 / float((step * self._scale).max())

    def remove(self) -> None:
        """Remove the layer, if it is still there."""
        if self.shown:
            self._viewer.layers.remove(self.layer)

    def place(self, position: tuple[float, ...]) -> tuple[float, float]:
        """Return (row, column), with fractions, of a point of the world."""
        pixel = (np.asarray(position[-2:], float) - self._shift) / self._scale + 0.5
        row, column = pixel / np.array(self._labels.grid.step_px)
        return float(row), float(column)

    def _redraw_few(self, cells: NDArray[np.int64]) -> None:
        """Send only the pixels of a few patches to the screen, not the whole texture."""
        if 1 < len(cells) <= _APART:
            # napari sends the rectangle around what changed: for the patch that was current
            # and one picked at random that may be all of it.
            for cell in cells:
                self._redraw_few(np.array([cell]))
            return
        if not len(cells):
            return
        q, within = self._q, np.arange(self._q)
        rows, columns = np.divmod(cells, self._labels.grid.columns)
        y, x = np.broadcast_arrays(
            (rows * q)[:, None, None] + within[:, None], (columns * q)[:, None, None] + within
        )
        pictures = _pictures(self._labels.codes[cells], self._offered[cells], q)
        for i in np.flatnonzero(cells == self._current):
            pictures[i] = _framed(pictures[i])
        self.layer.data_setitem((y.ravel(), x.ravel()), pictures.ravel())

    def _world(self, pixel: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return where a pixel of the slide lies; centres of pixels are whole numbers."""
        return self._shift + self._scale * pixel

    def _looks(self) -> dict[str, Any]:
        classes = self._labels.classes
        colors: dict[int | None, str] = {None: "#00000000", 0: "#00000000", **_COLORS}
        colors.update({i + 1: info.color for i, info in enumerate(classes.classes)})
        # napari shows the names in its status bar.
        index = [0, *range(1, len(classes) + 1), *_COLORS]
        names = ["", *classes.names, "left out", "", "current patch", "current patch"]
        return {"colormap": colors, "features": {"index": index, "class": names}}
