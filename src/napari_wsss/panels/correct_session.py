"""A region of a result that is being painted: its layer, and what of it is not stored yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_wsss.panels.support.layers import labels_layer
from napari_wsss.panels.support.shown_results import raw, result_of

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_wsss.inference import SlideSegmentation
    from napari_wsss.inference.drafts import Draft
    from napari_wsss.inference.tiles import Rect

__all__ = ["Session", "View", "show_stored"]


@dataclass(frozen=True)
class View:
    """Where a result's layer lies; outlives the layer.

    Attributes
    ----------
    scale, translate
        World units per pixel of the result, and the centre of its first pixel, (y, x).
    units, axis_labels
        Of the axes.
    name
        Of the layer.
    """

    scale: tuple[float, ...]
    translate: tuple[float, ...]
    units: tuple[str, ...]
    axis_labels: tuple[str, ...]
    name: str

    @classmethod
    def of(cls, layer: Layer) -> View:
        """Return where a layer lies."""
        return cls(
            tuple(float(v) for v in layer.scale),
            tuple(float(v) for v in layer.translate),
            tuple(str(u) for u in layer.units),
            tuple(layer.axis_labels),
            layer.name,
        )


class Session:
    """A region in an editable layer, aligned to the pixel with the result.

    Parameters
    ----------
    viewer
        Gets the layer, selected and ready to paint.
    result
        The segmentation.
    rect
        The region, in pixels of the result.
    before
        (h, w): its labels as stored.
    view
        Where the result lies.
    draft
        What was painted earlier and is not stored.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        result: SlideSegmentation,
        rect: Rect,
        before: NDArray[np.uint8],
        view: View,
        draft: Draft | None,
    ) -> None:
        self._viewer = viewer
        self.result = result
        self.rect = rect
        self.before = before
        now = before.copy() if draft is None else draft.on(before)
        data, options, _ = labels_layer([now], f"{view.name} correction", None, result.classes)
        origin = np.array([rect.y, rect.x])
        options.update(
            scale=view.scale,
            # The centre of the region's first pixel is that of the result's at this place.
            translate=np.array(view.translate) + np.array(view.scale) * origin,
            units=view.units,
            axis_labels=view.axis_labels,
            opacity=0.6,
        )
        self.layer = Labels(data, **options)
        viewer.add_layer(self.layer)
        viewer.layers.selection.active = self.layer
        self.layer.brush_size = 15
        self.layer.selected_label = 1
        self.layer.mode = "paint"

    @property
    def labels(self) -> NDArray[np.uint8]:
        """(h, w) labels as painted now; the layer's own array."""
        return self.layer.data

    @property
    def painted(self) -> bool:
        """Whether there is paint that is not stored."""
        return not np.array_equal(self.labels, self.before)

    @property
    def shown(self) -> bool:
        """Whether the layer is still in the viewer."""
        return self.layer in self._viewer.layers

    def draft(self) -> Draft:
        """Return what is painted and not stored; a copy."""
        from napari_wsss.inference.drafts import Draft

        return Draft(self.rect, self.labels != self.before, self.labels.copy())

    def replace(self, labels: NDArray[np.uint8]) -> None:
        """Show other labels, as a step that can be undone in napari."""
        changed = np.nonzero(self.labels != labels)
        if len(changed[0]):
            self.layer.data_setitem(changed, labels[changed])

    def stored(
        self, result: SlideSegmentation, sent: NDArray[np.uint8], labels: NDArray[np.uint8]
    ) -> None:
        """Take note of what is in the result now; what was painted since stays open.

        Parameters
        ----------
        result
            As it is now.
        sent, labels
            (h, w): what was to be written, and what is there: somebody else may have
            corrected other pixels meanwhile.
        """
        theirs = (labels != sent) & (self.labels == sent)
        self.result, self.before = result, labels
        if theirs.any():
            self.layer.data_setitem(np.nonzero(theirs), labels[theirs])

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.shown:
            self._viewer.layers.remove(self.layer)


def show_stored(viewer: napari.viewer.Viewer, result: SlideSegmentation) -> None:
    """Bring all layers of a result up to date after it was written."""
    for layer in map(raw, tuple(viewer.layers)):
        if result_of(layer) != result.path:
            continue
        data = layer.data
        if not layer.multiscale:
            if isinstance(data, np.ndarray):
                data[...] = result.labels[:]
        elif isinstance(data[-1], np.ndarray):  # a copy in memory of the coarsest level
            data[-1][...] = result.levels[-1][:]
        else:
            # napari reads the coarsest level once and keeps it, until it is given data.
            layer.data = list(data)
        layer.refresh(extent=False)
