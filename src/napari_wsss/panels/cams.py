"""Dock panel: class maps side by side, and the pseudo masks made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel

from napari_wsss.errors import SettingsError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.cams_cells import cells_of, label_pixels, patch_place
from napari_wsss.panels.cams_choice import PatchChooser
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_masks import MasksBox
from napari_wsss.panels.cams_region import RegionTool
from napari_wsss.panels.cams_slide import SlideBox, WholeSlideBox, raw
from napari_wsss.panels.cams_view import ViewBox
from napari_wsss.panels.cams_work import (
    Found,
    LoadedClassifier,
    header_job,
    patch_job,
    region_job,
)
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.layer_slide import layer_mpp
from napari_wsss.panels.support.live import Place
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import preferences
from napari_wsss.panels.support.work import JobRunner

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_wsss.cams import Explainer
    from napari_wsss.models import ModelInfo

__all__ = ["CamPanel"]

_PATCH, _REGION, _SLIDE = range(3)
_KINDS = ("a patch of the data set", "a region of a slide", "a whole slide")
#: Milliseconds after which the numbers follow the slider; the mask follows at once.
_NUMBERS_MS = 120


class CamPanel(Panel):
    """Shows where a classifier sees each class, and makes pseudo masks of it."""

    title = "CAMs and pseudo masks"
    order = 4

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.grid = CellGrid(viewer)
        self._found: Found | None = None
        self._explained_layers: tuple[Layer, ...] = ()
        self._reading: Path | None = None
        self._info: ModelInfo | None = None
        self._problem: str | None = None
        self._again = self._was_showing = self._label_given = False
        self._loaded = LoadedClassifier()
        self._headers = JobRunner()
        self._numbers = QTimer(self)
        self._numbers.setSingleShot(True)
        self._numbers.setInterval(_NUMBERS_MS)
        self._build()
        self._connect()
        self.patches.set_patches(self.state.patch_set)
        self.classifier.path = self.state.classifier
        self._suggest_folder()
        self._kind_chosen()

    def _build(self) -> None:
        self.classifier = PathField("open", "Classifier", "Models (*.safetensors)")
        self.kind = QComboBox()
        self.kind.addItems(_KINDS)
        self.patches = PatchChooser()
        self.slides = SlideBox(self.viewer, self.grid)
        self.region = RegionTool(self.viewer)
        self.look = JobView("Show class maps")
        self.whole = WholeSlideBox(self.viewer, self.grid)
        self.view = ViewBox()
        self.masks = MasksBox()
        self.masks.follow_threshold(self.view.threshold.value)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Classifier", self.classifier)
        form.addRow("Look at", self.kind)
        self.body.addLayout(form)
        for widget in (
            self.patches, self.slides, self.region, self.look, self.whole, self.view,
        ):  # fmt: skip
            self.body.addWidget(widget)
        section = self.section("Pseudo masks of the data set")
        section.addWidget(self.masks)
        self._data_set = QLabel()
        self._data_set.setWordWrap(True)
        section.insertWidget(0, self._data_set)

    def _connect(self) -> None:
        self.state.changed.connect(self._state_changed)
        self.classifier.changed.connect(self._classifier_chosen)
        self.kind.currentIndexChanged.connect(self._kind_chosen)
        self.patches.chosen.connect(self._patch_chosen)
        self.slides.changed.connect(self._refresh)
        self.region.about_to_draw.connect(self._draw)
        self.region.drawn.connect(self._region_drawn)
        self.look.requested.connect(self.show_maps)
        self.look.runner.finished.connect(self._explained)
        self.look.runner.ended.connect(self._look_ended)
        self.whole.folder.changed.connect(self._refresh)
        self.whole.work.requested.connect(self._map_slide)
        self.view.depth_changed.connect(self._depth_changed)
        self.view.threshold_changed.connect(self._threshold_moved)
        self.view.label_changed.connect(self._label_changed)
        self._numbers.timeout.connect(self._show_numbers)
        self.masks.settings_changed.connect(self._settings_changed)
        self.masks.made.connect(lambda folder: self.state.set(pseudo_masks=folder))
        self._headers.finished.connect(self._header_read)
        self._headers.failed.connect(self._header_failed)
        self._headers.ended.connect(self._header_ended)
        self.grid.closed.connect(self._refresh)

    # -- what there is to work with -------------------------------------------------------

    def _state_changed(self, name: str) -> None:
        if name == "classifier" and self.state.classifier != self.classifier.path:
            self.classifier.path = self.state.classifier
        elif name == "patch_set":
            self.patches.set_patches(self.state.patch_set)
        elif name == "folder":
            self._suggest_folder()
        self._refresh()

    def _suggest_folder(self) -> None:
        if self.whole.folder.path is None:
            self.whole.folder.path = self.state.folder or preferences().work_folder

    def _classifier_chosen(self, path: Path | None) -> None:
        self._info = None
        self._problem = None if path is None else "Reading the classifier …"
        self._read_header()
        self._refresh()

    def _read_header(self) -> None:
        """Read the chosen classifier's header; called again when one was read meanwhile."""
        path = self.classifier.path
        if path is None or path == self._reading or self._headers.running or self._closed:
            return
        self._reading = path
        self._headers.start("Classifier", lambda _: header_job(path), lane="headers")

    def _header_read(self, info: ModelInfo) -> None:
        if self._reading == self.classifier.path:
            self._info, self._problem = info, None
            self.state.set(classifier=self.classifier.path)
            self.slides.set_info(info)
            self._refresh()

    def _header_failed(self, error: BaseException) -> None:
        if self._reading == self.classifier.path:
            self._problem = str(error)
            self.slides.set_info(None)
            self._refresh()

    def _header_ended(self) -> None:
        if self._reading != self.classifier.path:
            self._read_header()
        self._reading = None

    def _classifier_problem(self) -> str | None:
        if self.classifier.path is None:
            return "Choose a classifier, or train one in the panel Train classifier."
        return self._problem

    def _data_problem(self) -> str | None:
        patches = self.state.patch_set
        if patches is None:
            return "Load a data set in the panel Data set first."
        if self._info is None:
            return self._classifier_problem()
        known = self._info.class_table.names
        if known != patches.classes.names:
            return (
                f"The classifier knows {', '.join(known)}; the data set has "
                f"{', '.join(patches.classes.names)}. Choose a classifier of this data set."
            )
        return None

    def _look_problem(self) -> str | None:
        kind = self.kind.currentIndex()
        if kind == _PATCH:
            problem = self._classifier_problem() or self._data_problem()
            empty = self.patches.index is None
            return problem or ("The data set has no patches." if empty else None)
        problem = self._classifier_problem() or self.slides.problem()
        if problem is not None:
            return problem
        if kind == _SLIDE:
            none = self.whole.folder.path is None
            return "Choose a folder for the class maps." if none else None
        layer = self.slides.layer
        drawn = layer is not None and self.region.corners(layer) is not None
        return None if drawn else "Draw a region on the slide."

    def _refresh(self, _: object = None) -> None:
        problem = self._look_problem()
        self.look.set_ready(problem)
        self.whole.work.set_ready(problem)
        patches = self.state.patch_set
        self.masks.set_inputs(
            patches,
            self.classifier.path,
            self._classifier_problem() or self._data_problem(),
            self.state.folder,
        )
        self._data_set.setVisible(patches is not None)
        if patches is not None:
            several = int((~patches.single_label).sum())
            self._data_set.setText(
                f"{patches.root.name}: {len(patches)} patches, {several} of several classes."
            )
        layer = self.slides.layer
        self.region.button.setEnabled(layer is not None and self.slides.problem() is None)
        if self.state.pseudo_masks is not None:
            self.say("Pseudo masks are there. Next: Train segmenter.")
        elif problem is None and not self.grid.showing:
            self.say("See where the classifier finds each class, then make the pseudo masks.")
        elif self.grid.showing:
            self.say("Zoom and move: all cells go together. Next: make the pseudo masks.")
        else:
            self.say(problem or "")

    def _kind_chosen(self, _: int = 0) -> None:
        kind = self.kind.currentIndex()
        self.patches.setVisible(kind == _PATCH)
        self.slides.setVisible(kind != _PATCH)
        self.region.setVisible(kind == _REGION)
        self.look.setVisible(kind != _SLIDE)
        self.whole.setVisible(kind == _SLIDE)
        self.view.setVisible(kind != _SLIDE)
        self._refresh()

    # -- looking --------------------------------------------------------------------------

    def show_maps(self) -> None:
        """Explain what is chosen; what is being explained is given up for it."""
        if self._look_problem() is not None:
            return
        if self.look.runner.running:
            self._again = True
            self.look.runner.cancel()
            return
        make = self._maker()
        if make is not None:
            self.look.run("Class maps", make)

    def _maker(self) -> Callable[[CancelToken], Job[Found]] | None:
        path, device = self.classifier.path, preferences().device
        try:
            settings = self.masks.settings().changed(threshold=0.0)
        except SettingsError as error:
            self.look.show_error(error)
            return None
        if path is None:
            return None

        def explainer() -> Explainer:
            return self._loaded.explainer(path, settings, device)

        if self.kind.currentIndex() == _PATCH:
            patches, i = self.state.patch_set, self.patches.index
            if patches is None or i is None:
                return None
            return lambda cancel: patch_job(explainer, patches, i, cancel)
        layer = self.slides.layer
        corners = None if layer is None else self.region.corners(layer)
        if layer is None or corners is None:
            return None
        place, mpp, slides = Place.of(layer), self.slides.classifier_mpp, self.slides
        label = self.view.label if self._label_given else None
        return lambda cancel: region_job(
            explainer, lambda: slides.open(layer), place, corners, mpp, label, cancel
        )

    def _explained(self, found: Found) -> None:
        if self._closed or self._again:
            return
        before, self._found = self._found, found
        moved = before is None or before.place != found.place or before.shape != found.shape
        self.view.set_found(found, choose_label=found.place is not None)
        self.look.clear()
        if self.isVisible():
            self._show_cells(fit=moved or not self.grid.showing)
        else:  # shown on coming back
            self._was_showing = True

    def _show_cells(self, *, fit: bool) -> None:
        if self._found is None:
            return
        found = self._found
        place = found.place
        if place is None:
            place = patch_place(found.mpp, self._users_mpp())
        self.grid.show(
            cells_of(
                found.explanation,
                found.name,
                place,
                self.view.depth_box.currentIndex(),
                self.view.threshold.value(),
            ),
            fit=fit,
        )
        self._explained_layers = self.grid.layers
        self._show_numbers()
        self._refresh()

    def _users_mpp(self) -> list[float | None]:
        """Return what the user's own layers say of their µm/px."""
        own = self.grid.layers
        others = (raw(layer) for layer in self.viewer.layers)
        return [layer_mpp(a) for a in others if not any(a is b for b in own)]

    def _look_ended(self) -> None:
        again, self._again = self._again, False
        if again and not self._closed:
            self.show_maps()

    def _patch_chosen(self, _: int) -> None:
        if self.grid.showing or self.look.runner.running:
            self.show_maps()
        self._refresh()

    def _draw(self) -> None:
        layer = self.slides.layer
        if layer is not None:
            self.grid.close()
            layer.visible = True
            self.region.draw(layer)

    def _region_drawn(self) -> None:
        self._label_given = False
        self._refresh()
        if self.kind.currentIndex() == _REGION:
            # Once napari is done with the mouse button.
            QTimer.singleShot(0, self.show_maps)

    def _map_slide(self) -> None:
        path = self.classifier.path
        if path is not None and self._info is not None and self._look_problem() is None:
            self.whole.start(self.slides, path, self._info)

    # -- what is shown --------------------------------------------------------------------

    def _depth_changed(self, _: int) -> None:
        if self._explaining_shown:
            self._show_cells(fit=False)

    def _threshold_moved(self, _: float) -> None:
        if self._found is not None and self._explaining_shown:
            layer = self.grid.over(len(self._found.explanation.classes))
            # In place: nothing but these pixels changes, so nothing else needs to be updated.
            layer.data[...] = label_pixels(self._mask())
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            self._numbers.start()

    def _label_changed(self) -> None:
        self._label_given = True
        self.show_maps()

    def _settings_changed(self) -> None:
        if self._explaining_shown:
            self.show_maps()

    def _mask(self) -> NDArray[np.uint8]:
        assert self._found is not None
        return self._found.explanation.pseudo_mask(
            self.view.depth_box.currentIndex(), self.view.threshold.value()
        )

    def _show_numbers(self) -> None:
        if self._found is not None:
            self.view.show_mask(self._mask())

    @property
    def _explaining_shown(self) -> bool:
        """Whether the cells in view are those of an explanation."""
        shown = self._found is not None and self.grid.showing
        return shown and self.grid.layers == self._explained_layers

    @property
    def _whole_chosen(self) -> bool:
        return self.kind.currentIndex() == _SLIDE

    # -- coming and going -----------------------------------------------------------------

    def on_shown(self) -> None:
        """Show again what was shown when the user went to another panel."""
        if self._was_showing and not self.grid.showing:
            if self._whole_chosen:
                self.whole.show_again()
            else:
                self._show_cells(fit=True)
        self._was_showing = False

    def on_hidden(self) -> None:
        """Put the user's layout back."""
        self._was_showing = self.grid.showing
        self.grid.close()

    def on_close(self) -> None:
        """Stop what runs, and let go of the viewer."""
        self._again = False
        for runner in (self.look.runner, self.whole.work.runner, self._headers):
            runner.cancel()
        self.masks.cancel()
        self.state.changed.disconnect(self._state_changed)
        self.slides.chooser.disconnect_viewer()
        self.region.stop()
        self.grid.disconnect_viewer()
