"""Which layers of a viewer show which result, and what can be changed about them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari.layers import Image, Labels

from napari_wsss.classes import ClassTable
from napari_wsss.panels.support.layers import (
    METADATA,
    label_colors,
    map_layer,
    named_result,
    uncertainty_look,
)

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["ShownResult", "layers_of", "raw", "result_of"]

_RESULT_PARTS = ("labels", "segmentation", "0")


def raw(layer: Any) -> Any:
    """Return the layer itself, of which a plugin gets a proxy."""
    return getattr(layer, "__wrapped__", layer)


def result_of(layer: Layer) -> Path | None:
    """Return the ``NAME.ome.zarr`` whose labels a layer shows; None if it shows none."""
    layer = raw(layer)
    if not isinstance(layer, Labels):
        return None
    said = named_result(layer)
    if said is not None:
        return said
    finest = layer.data[0] if layer.multiscale else layer.data
    place = getattr(finest, "store_path", None)
    root = getattr(getattr(place, "store", None), "root", None)
    if place is None or root is None:
        return None
    path = Path(root) / place.path
    if path.parts[-3:] != _RESULT_PARTS or not (path.parents[2] / "run.json").is_file():
        return None
    return path.parents[2]


def layers_of(viewer: napari.viewer.Viewer, path: Path) -> list[Layer]:
    """Return the layers in a viewer that show the result at `path`: labels and uncertainty."""
    found = []
    for layer in map(raw, tuple(viewer.layers)):
        shown = named_result(layer) or result_of(layer)
        if shown is not None and shown.absolute() == path.absolute():
            found.append(layer)
    return found


class ShownResult:
    """A result whose labels are in the viewer.

    Parameters
    ----------
    viewer
        Has the layers.
    path
        ``NAME.ome.zarr``.
    classes
        Of its labels.
    labels
        Their layer.
    uncertainty
        Its layer; without one, it is made when it is first shown, since adding a layer takes
        napari a few tenths of a second.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        path: Path,
        classes: ClassTable | None,
        labels: Labels,
        uncertainty: Image | None = None,
    ) -> None:
        self._viewer = viewer
        self.path, self.classes = path, classes
        self.labels, self.uncertainty = labels, uncertainty
        self._hidden: frozenset[int] | None = frozenset()

    @classmethod
    def find(cls, viewer: napari.viewer.Viewer, path: Path) -> Self | None:
        """Return the result at `path` as the topmost layers show it; None if none does.

        Raises
        ------
        SlideError, DataError
            If there is no such result any more, or it is damaged.
        """
        from napari_wsss.inference.result import LABELS
        from napari_wsss.slides import open_labels

        last: dict[type[Layer], Any] = {type(layer): layer for layer in layers_of(viewer, path)}
        if Labels not in last:
            return None
        classes = open_labels(path / LABELS).classes
        found = cls(viewer, path, classes, last[Labels], last.get(Image))
        found._hidden = None  # not known: whoever showed them may have hidden some
        return found

    @property
    def layers(self) -> list[Layer]:
        """Those layers that are still in the viewer."""
        made = (self.labels, self.uncertainty)
        return [a for a in made if a is not None and a in self._viewer.layers]

    @property
    def name(self) -> str:
        """Of the slide."""
        return self.path.name.removesuffix(".ome.zarr")

    def still_shows(self, path: Path) -> bool:
        """Whether the layers are there and follow what is stored at `path`.

        Those that were opened as a file follow nothing.
        """
        return False

    def refresh(self, *, thumbnail: bool = False) -> None:
        """Show what was stored since; nothing was, where the layers follow nothing."""

    def hide(self, hidden: Iterable[int]) -> None:
        """Make the classes with these indices invisible, and the others visible."""
        hidden = frozenset(hidden)
        if hidden == self._hidden or self.classes is None:
            return
        from napari.utils.colormaps import DirectLabelColormap

        self._hidden = hidden
        self.labels.colormap = DirectLabelColormap(color_dict=label_colors(self.classes, hidden))

    def show_uncertainty(self, shown: bool) -> None:
        """Show or hide the layer of uncertainty; it is made when it is first shown."""
        if self.uncertainty in self.layers:
            self.uncertainty.visible = shown  # type: ignore[union-attr]
        elif shown and self.labels in self._viewer.layers:
            self._add_uncertainty()

    def _uncertainty_levels(self) -> list[Any]:
        from napari_wsss.slides import open_pyramid

        return list(open_pyramid(self.path).levels)

    def _add_uncertainty(self) -> None:
        labels = self.labels
        data, options, _ = map_layer(
            self._uncertainty_levels(), [f"{self.name} uncertainty"], None
        )
        laid = {
            "scale": labels.scale,
            "translate": labels.translate,
            "units": labels.units,
            "axis_labels": labels.axis_labels,
            "metadata": {METADATA: {"result": str(self.path)}},
        }
        self.uncertainty = Image(data, **{**options, **laid, **uncertainty_look()})
        self._viewer.layers.insert(self._viewer.layers.index(labels) + 1, self.uncertainty)
        self._viewer.layers.selection.active = labels
