"""Which slide is labelled, and how large its patches are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QLabel, QWidget

from napari_wsss.errors import DataError
from napari_wsss.panels.support.choosers import LayerChooser
from napari_wsss.panels.support.layer_slide import (
    is_picture,
    layer_mpp,
    may_be_slide,
    slide_of,
    slide_problem,
    slide_size,
)
from napari_wsss.patches.grid import patch_side

if TYPE_CHECKING:
    import napari

    from napari_wsss.slides import Slide

__all__ = ["SlideForm"]

_PATCH_UM, _PATCH_MPP = 112.0, 0.5


class SlideForm(QWidget):
    """Chooses a layer and the size of patches.

    Parameters
    ----------
    viewer
        Whose layers are offered.

    Attributes
    ----------
    changed
        Signal: a number is another one.
    chooser
        The layer of the slide.
    patch_um, patch_mpp
        Side of a patch in µm, and its µm/px.
    slide_mpp
        µm/px of an image that does not say it.
    """

    changed = Signal()

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.chooser = LayerChooser(viewer, may_be_slide, otherwise=is_picture)
        self.patch_um = _number(_PATCH_UM, 5, 5000, " µm", 1, "Side of a patch on the slide")
        self.patch_mpp = _number(
            _PATCH_MPP, 0.05, 20, " µm/px", 3, "Resolution at which networks see the patches"
        )
        self.slide_mpp = _number(0, 0, 100, " µm/px", 4, "This image does not say its resolution")
        self.slide_mpp.setSpecialValueText("please give")
        self._size = QLabel()
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)
        self._form.addRow("Slide", self.chooser)
        self._form.addRow("Slide has", self.slide_mpp)
        self._form.addRow("Patch", self.patch_um)
        self._form.addRow("at", self.patch_mpp)
        self._form.addRow("", self._size)
        for field in (self.patch_um, self.patch_mpp, self.slide_mpp):
            field.valueChanged.connect(self._update)
        self.chooser.chosen.connect(self._update)
        self._update()

    @property
    def patch_size(self) -> tuple[int, float]:
        """Side of a patch in px, and its µm/px."""
        mpp = self.patch_mpp.value()
        return round(self.patch_um.value() / mpp), mpp

    def problem(self) -> str | None:
        """Return what is missing, None if labelling can begin."""
        problem = slide_problem(self.chooser.layer)
        if problem is None and self._asks_mpp() and not self.slide_mpp.value():
            return "Say how many µm a pixel of this image measures."
        return problem or self._size_problem()

    def slide(self) -> Slide:
        """Return the chosen slide.

        Raises
        ------
        SlideError
            If there is a `problem`.
        """
        assert self.chooser.layer is not None
        return slide_of(self.chooser.layer, self._mpp())

    def _size_problem(self) -> str | None:
        um, mpp = self.patch_um.value(), self.patch_mpp.value()
        try:
            patch_side(um, mpp)
        except DataError as error:
            return str(error)
        layer = self.chooser.layer
        of_slide = None if layer is None else self._mpp() or layer_mpp(layer)
        if layer is None or of_slide is None:
            return None
        height, width = (length * of_slide for length in slide_size(layer))
        # Within a hundredth, only the grid itself knows: its pixels are those of a level.
        if um > 1.01 * min(height, width):
            return (
                f"{layer.name} measures {width:.0f} x {height:.0f} µm, so no patch of {um:g} µm "
                "fits. Choose smaller patches."
            )
        return None

    def _mpp(self) -> float | None:
        """Return the µm/px that the user gives; None if the image says it."""
        return (self.slide_mpp.value() or None) if self._asks_mpp() else None

    def _asks_mpp(self) -> bool:
        layer = self.chooser.layer
        return layer is not None and slide_problem(layer) is None and layer_mpp(layer) is None

    def _update(self, *_: object) -> None:
        self._form.setRowVisible(self.slide_mpp, self._asks_mpp())
        side, _mpp = self.patch_size
        self._size.setText(f"{side} x {side} px")
        self.changed.emit()


def _number(
    value: float, low: float, high: float, suffix: str, decimals: int, tip: str
) -> QDoubleSpinBox:
    box = QDoubleSpinBox()
    box.setDecimals(decimals)
    box.setRange(low, high)
    box.setValue(value)
    box.setSuffix(suffix)
    box.setToolTip(tip)
    return box
