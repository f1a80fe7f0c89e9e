"""Choosing the slide whose class maps are made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QWidget

from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.support.choosers import LayerChooser
from napari_wsss.panels.support.layer_slide import (
    is_picture,
    layer_mpp,
    may_be_slide,
    slide_of,
    slide_problem,
)

if TYPE_CHECKING:
    import napari

    from napari_wsss.models import ModelInfo
    from napari_wsss.slides import Slide

__all__ = ["SlideBox", "raw"]


class SlideBox(QWidget):
    """Chooses the layer of a slide, and asks for resolutions that nothing says.

    Parameters
    ----------
    viewer
        Whose layers are offered.
    grid
        Whose layers are not.

    Attributes
    ----------
    changed
        Signal: another slide or resolution was chosen.
    """

    changed = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, grid: CellGrid, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._grid = grid
        self._info: ModelInfo | None = None
        self.chooser = LayerChooser(viewer, self._offered, otherwise=self._explained)
        self.slide_mpp, self.model_mpp = _mpp_field(), _mpp_field()
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Slide", self.chooser)
        self._form.addRow("Slide (µm/px)", self.slide_mpp)
        self._form.addRow("Classifier (µm/px)", self.model_mpp)
        self.chooser.chosen.connect(self._changed)
        self.slide_mpp.valueChanged.connect(self._changed)
        self.model_mpp.valueChanged.connect(self._changed)
        self.set_info(None)

    @property
    def layer(self) -> Image | None:
        """The slide's layer; None if there is none."""
        return raw(self.chooser.layer)

    @property
    def classifier_mpp(self) -> float | None:
        """µm/px of the classifier as given by the user; None if it says it itself."""
        said = self._info is None or self._info.mpp is not None
        return None if said else self.model_mpp.value() or None

    def open(self, layer: Image) -> Slide:
        """Open the slide behind the layer; may be called in a thread."""
        return slide_of(layer, self._given_mpp(layer))

    def problem(self) -> str | None:
        """Return what is missing, in words for the user."""
        layer = self.layer
        trouble = slide_problem(layer)
        if trouble is not None or layer is None:
            return trouble
        if layer_mpp(layer) is None and not self.slide_mpp.value():
            return f"{layer.name} does not say how many µm a pixel measures. Give it above."
        if self._info is not None and self._info.mpp is None and not self.model_mpp.value():
            return "The classifier does not say at how many µm/px it was trained. Give it above."
        return None

    def set_info(self, info: ModelInfo | None) -> None:
        """Take over what the classifier says of itself."""
        self._info = info
        self._changed()

    def _given_mpp(self, layer: Image) -> float | None:
        return self.slide_mpp.value() if layer_mpp(layer) is None else None

    def _changed(self, _: object = None) -> None:
        layer = self.layer
        ask_slide = layer is not None and not slide_problem(layer) and layer_mpp(layer) is None
        self._form.setRowVisible(self.slide_mpp, ask_slide)
        self._form.setRowVisible(self.model_mpp, self._info is not None and self._info.mpp is None)
        self.changed.emit()

    def _offered(self, layer: Layer) -> bool:
        return may_be_slide(layer) and self._is_users(layer)

    def _explained(self, layer: Layer) -> bool:
        """Whether a layer is offered without a slide, to say why it is none."""
        return is_picture(layer) and self._is_users(layer)

    def _is_users(self, layer: Layer) -> bool:
        return not any(raw(layer) is own for own in self._grid.layers)


def raw(layer: Layer | None) -> Image | None:
    """Return the layer itself: what a plugin gets of it must not be touched in a thread."""
    return getattr(layer, "__wrapped__", layer)


def _mpp_field() -> QDoubleSpinBox:
    field = QDoubleSpinBox()
    field.setDecimals(4)
    field.setRange(0, 100)
    field.setSingleStep(0.05)
    field.setSpecialValueText("not known")
    field.setKeyboardTracking(False)
    return field
