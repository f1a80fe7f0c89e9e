"""Dock panel: class maps side by side, and the pseudo masks made from them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel

from napari_wsss.errors import SettingsError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.cams_choice import PatchChooser
from napari_wsss.panels.cams_depth import MapBox, method_problem
from napari_wsss.panels.cams_explaining import ExplainingBox
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_header import HeaderReader
from napari_wsss.panels.cams_masks import MasksBox, same_patches
from napari_wsss.panels.cams_region import RegionTool
from napari_wsss.panels.cams_slide import SlideBox, raw
from napari_wsss.panels.cams_whole import WholeSlideBox
from napari_wsss.panels.cams_work import Found, How, patch_job, region_job
from napari_wsss.panels.support import helper
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.later import soon
from napari_wsss.panels.support.layer_slide import layer_mpp
from napari_wsss.panels.support.live import Place
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import preferences

if TYPE_CHECKING:
    import napari

    from napari_wsss.settings import PseudoMaskSettings

__all__ = ["CamPanel"]

_PATCH, _REGION, _SLIDE = range(3)
_KINDS = ("a patch of the data set", "a region of a slide", "a whole slide")


class CamPanel(Panel):
    """Shows where a classifier sees each class, and makes pseudo masks of it."""

    title = "CAMs and pseudo masks"
    order = 4

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.grid = CellGrid(viewer)
        self.header = HeaderReader(self)
        self._was_showing = self._label_given = False
        self._looked: PseudoMaskSettings | None = None
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
        self.maps = MapBox()
        self.explaining = ExplainingBox(self.grid, self._maker, self._users_mpp)
        self.look, self.view = self.explaining.look, self.explaining.view
        self.whole = WholeSlideBox(self.viewer, self.grid, self.maps)
        self.masks = MasksBox()
        self.masks.follow_threshold(self.view.threshold.value)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Classifier", self.classifier)
        form.addRow("Look at", self.kind)
        self.body.addLayout(form)
        for widget in (
            self.patches, self.slides, self.region, self.maps, self.explaining, self.whole,
        ):  # fmt: skip
            self.body.addWidget(widget)
        section = self.section("Pseudo masks of the data set")
        section.addWidget(self.masks)
        self._data_set = QLabel()
        self._data_set.setWordWrap(True)
        section.insertWidget(0, self._data_set)

    def _connect(self) -> None:
        self.state.changed.connect(self._state_changed)
        self.classifier.changed.connect(self.header.read)
        self.header.changed.connect(self._header_changed)
        self.kind.currentIndexChanged.connect(self._kind_chosen)
        self.patches.chosen.connect(self._patch_chosen)
        self.slides.changed.connect(self._slide_changed)
        self.region.about_to_draw.connect(self._draw)
        self.region.drawn.connect(self._region_drawn)
        self.maps.changed.connect(self._map_chosen)
        self.explaining.shown.connect(self._refresh)
        self.view.label_changed.connect(self._label_changed)
        self.whole.folder.changed.connect(self._refresh)
        self.whole.work.requested.connect(self._map_slide)
        self.masks.settings_changed.connect(self._settings_changed)
        self.masks.made.connect(lambda to, of: self.state.set(pseudo_masks=to, masked=of))
        self.grid.closed.connect(self._refresh)

    # -- what there is to work with -------------------------------------------------------

    def _state_changed(self, name: str) -> None:
        if name == "classifier" and self.state.classifier != self.classifier.path:
            self.classifier.path = self.state.classifier
        elif name == "patch_set":
            self.explaining.forget()
            self.patches.set_patches(self.state.patch_set)
        elif name == "folder":
            self._suggest_folder()
        self._refresh()

    def _suggest_folder(self) -> None:
        if self.whole.folder.path is None:
            self.whole.folder.path = self.state.folder or preferences().work_folder

    def _header_changed(self) -> None:
        if self._closed:
            return
        if self.header.info is not None:
            self.state.set(classifier=self.header.path)
        self.whole.forget()
        self.explaining.forget()
        self.maps.set_info(self.header.info, self._method())
        self.slides.set_info(self.header.info)

    def _slide_changed(self) -> None:
        self.whole.forget()
        self._refresh()

    def _classifier_problem(self) -> str | None:
        if self.classifier.path is None:
            return "Choose a classifier, or train one in the panel Train classifier."
        return self.header.problem

    def _data_problem(self) -> str | None:
        patches = self.state.patch_set
        if patches is None:
            return "Load a data set in the panel Data set first."
        if self.header.info is None:
            return self._classifier_problem()
        known = self.header.info.class_table.names
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
        problem_of_masks = self._classifier_problem() or self._data_problem()
        if problem_of_masks is None and self.header.info is not None:
            problem_of_masks = method_problem(self.header.info, self._method())
        self.masks.set_inputs(patches, self.classifier.path, problem_of_masks, self.state.folder)
        self._data_set.setVisible(patches is not None)
        if patches is not None:
            several = int((~patches.single_label).sum())
            self._data_set.setText(
                f"{patches.root.name}: {len(patches)} patches, {several} of several classes."
            )
        layer = self.slides.layer
        self.region.button.setEnabled(layer is not None and self.slides.problem() is None)
        made = self.state.pseudo_masks is not None and same_patches(self.state.masked, patches)
        if made and problem_of_masks is None:
            self.say("Pseudo masks are there. Next: Train segmenter.")
        elif problem is None and not self.grid.showing:
            self.say("See where the classifier finds each class, then make the pseudo masks.")
        elif self.grid.showing:
            self.say("Zoom and move: all cells go together. Next: make the pseudo masks.")
        else:
            self.say(problem or "")

    def _kind_chosen(self, _: int = 0) -> None:
        kind = self.kind.currentIndex()
        if kind != _REGION:
            self.region.stop()
        self.patches.setVisible(kind == _PATCH)
        self.slides.setVisible(kind != _PATCH)
        self.region.setVisible(kind == _REGION)
        self.maps.set_whole(kind == _SLIDE)
        self.explaining.setVisible(kind != _SLIDE)
        self.whole.setVisible(kind == _SLIDE)
        if kind != _SLIDE and self.explaining.showing:
            self._map_chosen()  # on whole slides, another one may have been
        self._refresh()

    # -- looking --------------------------------------------------------------------------

    def _maker(self) -> Callable[[CancelToken], Job[Found]] | None:
        """Return what explains the patch or region that is chosen; None without one."""
        path = self.classifier.path
        if path is None or self._look_problem() is not None:
            return None
        try:
            self.explaining.settings = settings = self._settings()
        except SettingsError as error:
            self.look.show_error(error)
            return None
        self.explaining.choice = self.maps.chosen
        # What is 'auto' differs from map to map, and a map that is kept needs no other settings.
        self._looked = _of_maps(self.masks.settings())
        wanted = _of_maps(settings).changed(method=settings.method)
        how = How(path, wanted, preferences().device)
        if self.kind.currentIndex() == _PATCH:
            patches, i = self.state.patch_set, self.patches.index
            if patches is None or i is None:
                return None
            return lambda cancel: patch_job(how, patches, i, cancel)
        layer = self.slides.layer
        corners = None if layer is None else self.region.corners(layer)
        if layer is None or corners is None:
            return None
        place, mpp, slides = Place.of(layer), self.slides.classifier_mpp, self.slides
        label = self.view.label if self._label_given else None
        return lambda cancel: region_job(
            how, lambda: slides.open(layer), place, corners, mpp, label, cancel
        )

    def _settings(self) -> PseudoMaskSettings:
        """Return the settings of the form, as they apply to the map that is looked at."""
        settings, info, chosen = self.masks.settings(), self.header.info, self.maps.chosen
        if chosen is not None:
            settings = settings.changed(method=chosen.method)
        return settings if info is None else settings.resolved(info.architecture)

    def _method(self) -> str:
        """Return how the pseudo masks of the data set are made; empty if nothing says it."""
        try:
            settings, info = self.masks.settings(), self.header.info
        except SettingsError:
            return ""  # which the form says
        return "" if info is None else settings.resolved(info.architecture).method

    def _users_mpp(self) -> list[float | None]:
        own = self.grid.layers
        others = (raw(layer) for layer in self.viewer.layers)
        return [layer_mpp(a) for a in others if not any(a is b for b in own)]

    def _patch_chosen(self, _: int) -> None:
        if self.grid.showing or self.look.runner.running:
            self.explaining.explain()
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
            soon(self.explaining, self.explaining.explain)

    def _label_changed(self) -> None:
        self._label_given = True
        self.explaining.explain()

    def _settings_changed(self) -> None:
        method = self._method()
        if method and self.maps.set_method(method):
            self._refresh()
        if not self.explaining.showing:
            return
        try:
            settings = self._settings()
        except SettingsError:
            return  # which the form says
        if _of_maps(self.masks.settings()) != self._looked:
            self.explaining.explain()
        else:
            self.explaining.settings = settings
            self.explaining.show_cells(fit=False)

    def _map_slide(self) -> None:
        path, info = self.classifier.path, self.header.info
        if path is not None and info is not None and self._look_problem() is None:
            self.whole.start(self.slides, path, info)

    def _map_chosen(self) -> None:
        chosen = self.maps.chosen
        if self.kind.currentIndex() == _SLIDE:
            self._switch_maps()
        elif chosen is not None:
            with contextlib.suppress(SettingsError):  # which the form says
                self.explaining.settings = self._settings()
            self.explaining.choose(chosen)

    def _switch_maps(self) -> None:
        path, info = self.classifier.path, self.header.info
        if path is not None and info is not None and self._look_problem() is None:
            self.whole.switch(self.slides, path, info)

    # -- coming and going -----------------------------------------------------------------

    def on_shown(self) -> None:
        """Show again what was shown when the user went to another panel."""
        helper.start()  # which loads torch meanwhile
        self.region.come_back()
        if self._was_showing and not self.grid.showing:
            if self.kind.currentIndex() == _SLIDE:
                self.whole.show_again()
            else:
                self.explaining.show_cells(fit=True)
        self._was_showing = False

    def on_hidden(self) -> None:
        """Put the user's layout back."""
        self._was_showing = self.grid.showing or self.look.runner.running
        self.grid.close()
        self.region.leave()

    def on_close(self) -> None:
        """Stop what runs, and let go of the viewer."""
        self.explaining.stop()
        self.header.stop()
        self.whole.stop()
        self.masks.cancel()
        self.state.changed.disconnect(self._state_changed)
        self.slides.chooser.disconnect_viewer()
        self.region.stop()
        self.grid.disconnect_viewer()


def _of_maps(settings: PseudoMaskSettings) -> PseudoMaskSettings:
    """Return the settings without the method, and those that matter once there are maps."""
    return settings.changed(
        method="auto", threshold=0.0, certainty=0.0, overlaps=False, batch_size=1
    )
