"""The class maps of a whole slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from napari_wsss.errors import OutputError, WsssError
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, ResultCreated
from napari_wsss.panels.cams_cells import evidence_colormap
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_maps import SlideMapsView
from napari_wsss.panels.cams_slide import SlideBox
from napari_wsss.panels.cams_work import map_job
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.live import Place, ViewCentre
from napari_wsss.panels.support.on_slide import on_slide
from napari_wsss.panels.support.preferences import preferences

if TYPE_CHECKING:
    import napari

    from napari_wsss.models import ModelInfo

__all__ = ["WholeSlideBox"]

#: Milliseconds between two looks at what was stored.
_REFRESH_MS = 250


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
        self._centre: ViewCentre | None = None
        self.folder = PathField("folder", "Folder for the class maps")
        self.replace = QCheckBox("Replace what is there")
        self.work = JobView("Map the whole slide")
        self.keep = QPushButton("Open as layers")
        self.keep.setToolTip("<p>Leave the cells, and put the maps as layers over the slide.</p>")
        self.keep.clicked.connect(self._open)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for widget in (self.folder, self.replace, self.work, self.keep):
            layout.addWidget(widget)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_REFRESH_MS)
        self._timer.timeout.connect(self._refresh)
        self.folder.changed.connect(self.forget)
        self.work.runner.event.connect(self._event)
        self.work.runner.finished.connect(self._finished)
        self.work.runner.failed.connect(self._failed)
        self.work.runner.ended.connect(self._ended)
        self.keep.setVisible(False)
        self.replace.setVisible(False)

    @property
    def shown(self) -> SlideMapsView | None:
        """The maps that are or were shown last."""
        return self._shown

    def forget(self, _: object = None) -> None:
        """Replace nothing: it was allowed for another slide, classifier or folder."""
        self.replace.setChecked(False)
        self.replace.setVisible(False)

    def start(self, slides: SlideBox, classifier: Path, info: ModelInfo) -> None:
        """Begin, or go on with, the maps of the chosen slide."""
        layer, out = slides.layer, self.folder.path
        if layer is None or out is None:
            return
        self._layer, self._info, self._shown = layer, info, None
        self.keep.setVisible(False)
        self._centre = centre = ViewCentre(self._viewer, Place.of(layer))
        inputs = classifier, out, slides.classifier_mpp, preferences().device
        overwrite = self.replace.isChecked()
        self.forget()

        def make(cancel: CancelToken) -> Job[Path]:
            yield Log("Opening the slide")
            with slides.open(layer) as slide:
                job = on_slide(
                    slide, map_job, *inputs, overwrite, view=lambda: centre.yx, cancel=cancel
                )
                return (yield from job)

        self.work.run("Class maps", make)

    def show_again(self) -> None:
        """Show the maps in the grid, if there are any."""
        if self._shown is not None:
            self._grid.show(self._shown.cells())
            self._shown.follow(self._grid.layers[1::2])

    def _event(self, event: Event) -> None:
        if isinstance(event, ResultCreated):
            self._begin(event.path)
        elif isinstance(event, BlockDone) and not self._timer.isActive():
            self._timer.start()

    def _begin(self, path: Path) -> None:
        """Show the maps, which are there and grow."""
        if self._layer is None or self._info is None:
            return
        try:
            self._shown = SlideMapsView(path, self._info.class_table, self._layer)
        except WsssError as error:
            self.work.show_error(error)
            return
        # Who went to another panel meanwhile finds them on coming back.
        if self.isVisible():
            self.show_again()

    def _refresh(self) -> None:
        if self._shown is not None and self._grid.showing:
            self._shown.refresh()

    def _finished(self, path: Path) -> None:
        if self._shown is None:
            self._begin(path)
        self._refresh()
        self.work.say(f"Finished: {path.name}")
        self.keep.setVisible(True)

    def _failed(self, error: BaseException) -> None:
        # Something else is in the way, which the error says; it is replaced if that is wanted.
        self.replace.setVisible(isinstance(error, OutputError))

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
