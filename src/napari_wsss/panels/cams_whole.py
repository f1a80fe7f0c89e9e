"""The class maps of a whole slide."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from napari.layers import Image, Layer
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QPushButton, QVBoxLayout, QWidget

from napari_wsss.errors import OutputError, WsssError
from napari_wsss.inference import RunOptions
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, ResultCreated
from napari_wsss.panels.cams_cells import evidence_colormap
from napari_wsss.panels.cams_depth import MapBox
from napari_wsss.panels.cams_finder import MapsFinder
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_maps import SlideMapsView
from napari_wsss.panels.cams_maps_jobs import find_job, map_job
from napari_wsss.panels.cams_slide import SlideBox
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


@dataclass(frozen=True)
class _Wanted:
    """Which maps: of what, by what, where they are stored, and of which depth."""

    layer: Image
    classifier: Path
    info: ModelInfo
    out: Path
    mpp: float | None
    depth: int | None


class WholeSlideBox(QWidget):
    """Maps a whole slide, shown in the grid as it grows; one depth after the other.

    Parameters
    ----------
    viewer
        Where it is shown.
    grid
        The cells.
    maps
        Where the user chooses a depth.
    """

    def __init__(
        self,
        viewer: napari.viewer.Viewer,
        grid: CellGrid,
        maps: MapBox,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._viewer, self._grid, self._maps = viewer, grid, maps
        self._shown: SlideMapsView | None = None
        self._layers: tuple[Layer, ...] = ()
        self._in_view: Image | None = None
        self._chosen: _Wanted | None = None
        self._running: _Wanted | None = None
        self._growing: Path | None = None
        self._known: list[tuple[_Wanted, Path]] = []
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
        self._finder = MapsFinder(self)
        self._finder.found.connect(self._found)
        self._finder.failed.connect(self._not_found)
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
        """Replace nothing: it was allowed for another slide, classifier, folder or depth."""
        self.replace.setChecked(False)
        self.replace.setVisible(False)

    def start(self, slides: SlideBox, classifier: Path, info: ModelInfo) -> None:
        """Begin, or go on with, the maps of the chosen slide and depth."""
        wanted = self._wanted(slides, classifier, info)
        if wanted is None:
            return
        self._chosen = self._running = wanted
        self._growing = self._shown = None
        self.keep.setVisible(False)
        self._centre = centre = ViewCentre(self._viewer, Place.of(wanted.layer))
        options = RunOptions(
            model_mpp=wanted.mpp,
            device=preferences().device,
            overwrite=self.replace.isChecked(),
        )
        inputs = classifier, wanted.out, wanted.depth, options
        self.forget()

        def make(cancel: CancelToken) -> Job[Path]:
            yield Log("Opening the slide")
            with slides.open(wanted.layer) as slide:
                job = on_slide(slide, map_job, *inputs, view=lambda: centre.yx, cancel=cancel)
                return (yield from job)

        self.work.run("Class maps", make)

    def switch(self, slides: SlideBox, classifier: Path, info: ModelInfo) -> None:
        """Show the maps of the depth that was chosen, if there are any; a run goes on."""
        self.forget()
        wanted = self._wanted(slides, classifier, info)
        if wanted is None:
            return
        self._chosen = wanted
        if wanted == self._running:
            self._finder.stop()
            self._found(wanted, self._growing)
            return
        if self._running is None:
            self.work.clear()
        known = [path for before, path in self._known if before == wanted]
        if known and known[0].is_dir():
            self._found(wanted, known[0])  # at once; whether it still is that is looked up

        def make(cancel: CancelToken) -> Job[Path | None]:
            with slides.open(wanted.layer) as slide:
                inputs = classifier, wanted.out, wanted.depth
                return (yield from on_slide(slide, find_job, *inputs, cancel=cancel))

        self._finder.ask(wanted, make)

    def show_again(self) -> None:
        """Show the maps in the grid, if there are any."""
        if self._shown is not None:
            # From one depth to another, one goes on looking at the same place.
            same = self._showing and self._shown.slide is self._in_view
            self._grid.show(self._shown.cells(), fit=not same)
            self._layers, self._in_view = self._grid.layers, self._shown.slide
            self._shown.follow(self._layers[1::2])

    def stop(self) -> None:
        """Give up what runs."""
        self._finder.stop()
        self.work.runner.cancel()

    # -- maps that are there ----------------------------------------------------------------

    @property
    def _showing(self) -> bool:
        """Whether the cells in view are those of a whole slide."""
        return self._grid.showing and self._grid.layers == self._layers

    def _wanted(self, slides: SlideBox, classifier: Path, info: ModelInfo) -> _Wanted | None:
        layer, out, chosen = slides.layer, self.folder.path, self._maps.chosen
        if layer is None or out is None or chosen is None:
            return None
        return _Wanted(layer, classifier, info, out, slides.classifier_mpp, chosen.depth)

    def _found(self, wanted: _Wanted, path: Path | None) -> None:
        """Show what was found; what is shown of another depth goes."""
        if wanted != self._chosen:
            return
        if path is None or self._shown is None or self._shown.path != path or not self._showing:
            self._shown = None
            if path is not None:
                self._begin(path)
        found = self._shown
        if found is None and self._showing:
            self._grid.close()
        self.keep.setVisible(found is not None and found.complete)
        if wanted == self._running:
            return
        if found is None:
            later = ", they can be made once this run is over" if self._running else ""
            self.work.say(f"{self._maps.box.currentText()}: no maps yet{later}.")
        elif found.complete:
            self.work.say(f"Finished: {found.path.name}")
        else:
            self.work.say(f"{found.path.name} is not finished; start to go on with it.")

    def _not_found(self, wanted: _Wanted, error: BaseException) -> None:
        self._found(wanted, None)
        self.work.show_error(error)

    def _begin(self, path: Path) -> None:
        """Show maps, which are there and may grow."""
        if self._chosen is None:
            return
        try:
            self._shown = SlideMapsView(path, self._chosen.info.class_table, self._chosen.layer)
        except WsssError as error:
            self.work.show_error(error)
            return
        # Of one slide only: whose layer is gone shall not be kept in memory by this.
        chosen = self._chosen
        kept = [(w, p) for w, p in self._known if w.layer is chosen.layer and w != chosen]
        self._known = [*kept, (chosen, path)]
        # Who went to another panel meanwhile finds them on coming back.
        if self.isVisible():
            self.show_again()

    # -- following the run --------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        if isinstance(event, ResultCreated):
            self._growing = event.path
            if self._chosen == self._running:
                self._begin(event.path)
        elif isinstance(event, BlockDone) and not self._timer.isActive():
            self._timer.start()

    def _refresh(self) -> None:
        if self._shown is not None and self._showing and self._shown.path == self._growing:
            self._shown.refresh()

    def _finished(self, path: Path) -> None:
        self._growing = path
        if self._chosen == self._running:
            if self._shown is None:
                self._begin(path)
            self.keep.setVisible(True)
        self.work.say(f"Finished: {path.name}")

    def _failed(self, error: BaseException) -> None:
        # Something else is in the way, which the error says; it is replaced if that is wanted.
        same = self._chosen == self._running
        self.replace.setVisible(isinstance(error, OutputError) and same)

    def _ended(self) -> None:
        self._refresh()
        self._running = None
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
