"""Choosing a slide, a region of it or the whole, and mapping the whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QPushButton, QVBoxLayout, QWidget

from napari_wsss.errors import WsssError
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job
from napari_wsss.panels.cams_cells import evidence_colormap
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_maps import SlideMapsView, maps_path
from napari_wsss.panels.support.choosers import LayerChooser, PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.layer_slide import (
    layer_mpp,
    may_be_slide,
    slide_of,
    slide_problem,
)
from napari_wsss.panels.support.live import Place, ViewCentre
from napari_wsss.panels.support.preferences import preferences

if TYPE_CHECKING:
    import napari

    from napari_wsss.inference import SlideMaps
    from napari_wsss.models import ModelInfo
    from napari_wsss.slides import Slide

__all__ = ["SlideBox", "WholeSlideBox", "raw"]

#: Milliseconds between two looks at what was stored.
_REFRESH_MS = 250


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
        self.chooser = LayerChooser(viewer, self._offered)
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
        return may_be_slide(layer) and not any(raw(layer) is own for own in self._grid.layers)


class WholeSlideBox(QWidget):
    """Maps a whole slide, shown in the grid as it grows.

    Parameters
    ----------
    viewer
        Where it is shown.
    grid
        The cells.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, grid: CellGrid, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._grid = viewer, grid
        self._shown: SlideMapsView | None = None
        self._layer: Image | None = None
        self._info: ModelInfo | None = None
        self._path: Path | None = None
        self._centre: ViewCentre | None = None
        self.folder = PathField("folder", "Folder for the class maps")
        self.work = JobView("Map the whole slide")
        self.keep = QPushButton("Open as layers")
        self.keep.setToolTip("<p>Leave the cells, and put the maps as layers over the slide.</p>")
        self.keep.clicked.connect(self._open)
        self.keep.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.folder, self.work, self.keep):
            layout.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        self.work.runner.event.connect(self._event)
        self.work.runner.finished.connect(self._finished)
        self.work.runner.ended.connect(self._ended)

    @property
    def shown(self) -> SlideMapsView | None:
        """The maps that are or were shown last."""
        return self._shown

    def start(self, slides: SlideBox, classifier: Path, info: ModelInfo) -> None:
        """Begin, or go on with, the maps of the chosen slide."""
        layer, out = slides.layer, self.folder.path
        if layer is None or out is None:
            return
        self._layer, self._info, self._shown, self._path = layer, info, None, None
        self.keep.setVisible(False)
        place = Place.of(layer)
        self._centre = centre = ViewCentre(self._viewer, place)
        model_mpp, device = slides.classifier_mpp, preferences().device

        def make(cancel: CancelToken) -> Job[SlideMaps]:
            from napari_wsss.inference import map_job
            from napari_wsss.models import load_classifier

            slide = slides.open(layer)
            step = (info.mpp or model_mpp or 1) / slide.require_mpp()
            self._path = maps_path(out, slide.name)

            def view() -> tuple[float, float] | None:
                yx = centre.yx
                return None if yx is None else (yx[0] / step, yx[1] / step)

            return map_job(
                slide, load_classifier(classifier), out, model_mpp=model_mpp, device=device,
                view=view, live=True, cancel=cancel,
            )  # fmt: skip

        self.work.run("Class maps", make)

    def show_again(self) -> None:
        """Show the maps in the grid, if there are any."""
        if self._shown is not None:
            self._grid.show(self._shown.cells())
            self._shown.follow(self._grid.layers[1::2])

    def _event(self, event: Event) -> None:
        if self._shown is None and self._path is not None:
            self._begin()
        if isinstance(event, BlockDone) and not self._timer.isActive():
            self._timer.start()

    def _begin(self) -> None:
        """Show the maps as soon as their folder has been made."""
        path, layer, info = self._path, self._layer, self._info
        if path is None or layer is None or info is None or not (path / "run.json").is_file():
            return
        try:
            self._shown = SlideMapsView(path, info.class_table, layer)
        except WsssError:
            return  # being made, or to be replaced; the run itself tells what is wrong
        # Who went to another panel meanwhile finds them on coming back.
        if self.isVisible():
            self.show_again()

    def _refresh(self) -> None:
        if self._shown is not None and self._grid.showing:
            self._shown.refresh()

    def _finished(self, maps: SlideMaps) -> None:
        self._path = maps.path
        if self._shown is None:
            self._begin()
        self._refresh()
        self.work.say(f"Finished: {maps.path.name}")
        self.keep.setVisible(True)

    def _ended(self) -> None:
        self._refresh()
        if self._centre is not None:
            self._centre.disconnect()
            self._centre = None

    def _open(self) -> None:
        if self._shown is None:
            return
        self._grid.close()
        layers = self._viewer.open(str(self._shown.path), plugin="napari-wsss")
        for i, layer in enumerate(layers):
            # As in the cells, and one at a time: over each other they would mix.
            layer.contrast_limits = (127, 254)
            layer.colormap = evidence_colormap()
            layer.blending, layer.opacity = "translucent_no_depth", 0.75
            layer.visible = i == 0


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
