"""The patches of a data set in the viewer, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.support.layers import mark_shown
from napari_wsss.panels.support.work import JobRunner
from napari_wsss.patches.mosaic import Mosaic, mosaic_job

if TYPE_CHECKING:
    import napari
    from napari.layers import Image, Layer

    from napari_wsss.patches import PatchSet

__all__ = ["PAGE", "Gallery"]

#: Patches on a page.
PAGE = 48
_ALL, _SEVERAL, _NONE = "all patches", "several classes", "no class"


class Gallery(QWidget):
    """Shows one page of patches as one layer; the other layers are hidden meanwhile.

    Parameters
    ----------
    viewer
        Where the page is shown.

    Attributes
    ----------
    layer
        The layer of the page; None while no page is shown.
    """

    def __init__(self, viewer: napari.viewer.Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._patches: PatchSet | None = None
        self._page = 0
        self._mosaic: Mosaic | None = None
        self._hidden: list[Layer] = []
        self._active: Layer | None = None
        self._camera: dict[str, Any] | None = None
        self.layer: Image | None = None
        self._wanted = False
        self._runner = JobRunner()
        self._runner.finished.connect(self._read)
        self._runner.failed.connect(lambda error: self._say(str(error)))
        self._runner.ended.connect(self._ended)
        self._stale = False
        self.button = QPushButton("Look at the patches")
        self.button.setCheckable(True)
        self.button.setToolTip("Shows the patches with their classes in the viewer")
        self.button.toggled.connect(self._toggled)
        self.filter = QComboBox()
        self.filter.setToolTip("Which patches are shown")
        self.filter.setMinimumContentsLength(10)
        self.filter.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.filter.currentIndexChanged.connect(self._filtered)
        self.back, self.forth = QToolButton(), QToolButton()
        for tool, arrow, step, tip in (
            (self.back, Qt.ArrowType.LeftArrow, -1, "Page before"),
            (self.forth, Qt.ArrowType.RightArrow, 1, "Next page"),
        ):
            tool.setArrowType(arrow)
            tool.setToolTip(tip)
            tool.setAccessibleName(tip)
            tool.clicked.connect(lambda _=False, step=step: self.turn(step))
        self.where = QLabel()
        self.message = QLabel()
        self.message.setTextFormat(Qt.TextFormat.PlainText)  # names may look like tags
        self.message.setWordWrap(True)
        self.message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.filter, 1)
        row.addWidget(self.back)
        row.addWidget(self.where)
        row.addWidget(self.forth)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.button)
        layout.addLayout(row)
        layout.addWidget(self.message)
        viewer.layers.events.removed.connect(self._removed)
        self.show_set(None)

    # -- what is shown ------------------------------------------------------------------

    def show_set(self, patches: PatchSet | None) -> None:
        """Take over another set; a page that is open shows its patches next."""
        self._patches = patches
        self.filter.blockSignals(True)
        self.filter.clear()
        if patches is not None:
            names = [f"with {name}" for name in patches.classes.names]
            self.filter.addItems([_ALL, *names, _SEVERAL, _NONE])
        self.filter.blockSignals(False)
        self._page = 0
        self._update()
        if patches is None:
            self.button.setChecked(False)
        elif self.button.isChecked():
            self._begin()

    def indices(self) -> np.ndarray:
        """Return the patches that the filter lets through."""
        if self._patches is None:
            return np.zeros(0, int)
        labels, chosen = self._patches.labels, self.filter.currentIndex()
        if chosen <= 0:
            return np.arange(len(labels))
        if chosen <= labels.shape[1]:
            return np.flatnonzero(labels[:, chosen - 1])
        several = self.filter.currentText() == _SEVERAL
        return np.flatnonzero(labels.sum(1) > 1 if several else ~labels.any(1))

    @property
    def pages(self) -> int:
        """Number of pages."""
        return -(-len(self.indices()) // PAGE)

    def turn(self, step: int) -> None:
        """Go some pages on, or back."""
        page = min(max(self._page + step, 0), max(self.pages - 1, 0))
        if page != self._page:
            self._page = page
            self._update()
            self._begin()

    def close_gallery(self) -> None:
        """Remove the page and show the viewer as it was."""
        self.button.setChecked(False)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer, and reading."""
        self.close_gallery()
        self._runner.cancel()
        self._viewer.layers.events.removed.disconnect(self._removed)

    # -- reading a page -----------------------------------------------------------------

    def _toggled(self, on: bool) -> None:
        self.button.setText("Close the gallery" if on else "Look at the patches")
        self._update()
        if on:
            self._begin()
        else:
            self._runner.cancel()
            self._restore()

    def _filtered(self, _: int) -> None:
        self._page = 0
        self._update()
        self._begin()

    def _update(self) -> None:
        pages, on = self.pages, self.button.isChecked()
        self.where.setText(f"{self._page + 1} of {pages}" if pages else "0 of 0")
        self.button.setEnabled(self._patches is not None)
        self.back.setEnabled(on and self._page > 0)
        self.forth.setEnabled(on and self._page < pages - 1)
        for widget in (self.filter, self.back, self.where, self.forth):
            widget.setVisible(on)
        self._say("")

    def _begin(self) -> None:
        if self._patches is None or not self.button.isChecked():
            return
        if self._runner.running:
            self._stale = True
            self._runner.cancel()
            return
        patches = self._patches
        chosen = self.indices()[self._page * PAGE : (self._page + 1) * PAGE].tolist()
        if not chosen:
            self._say("There are no such patches.")
            return

        def make(cancel: CancelToken) -> Job[Mosaic]:
            return mosaic_job(patches, chosen, cancel=cancel)

        self._say("Reading the patches …")
        self._runner.start("Gallery", make, lane="gallery")

    def _ended(self) -> None:
        if self._stale:
            self._stale = False
            self._begin()

    def _read(self, mosaic: Mosaic) -> None:
        if not self.button.isChecked() or self._stale:
            return
        self._mosaic = mosaic
        if self.layer is None:
            self.layer = self._open(mosaic)
        else:
            self.layer.data = mosaic.picture
        self._viewer.reset_view(layers=[self.layer])  # not the slide, which is larger
        bad = len(mosaic.unreadable)
        self._say(
            f"{bad} of these cannot be read (grey)." if bad else "Click a patch for its name."
        )

    # -- the layer ----------------------------------------------------------------------

    def _open(self, mosaic: Mosaic) -> Image:
        viewer, patches = self._viewer, self._patches
        assert patches is not None
        camera = viewer.scene.camera
        self._camera = {name: getattr(camera, name) for name in ("center", "zoom", "angles")}
        self._active = viewer.layers.selection.active
        self._hidden = [layer for layer in viewer.layers if layer.visible]
        for layer in self._hidden:
            layer.visible = False
        options: dict[str, Any] = {
            "name": f"{patches.root.name} (gallery)",
            "rgb": True,
            "interpolation2d": "linear",  # names stay readable when they are drawn small
        }
        # The units of the others: napari drops those of all layers as soon as one differs.
        if len(viewer.layers):
            options["units"] = viewer.layers[0].units[-2:]
        elif patches.mpp is not None:
            options["units"] = ("µm", "µm")
        scale = 1.0 if patches.mpp is None else patches.mpp
        options = mark_shown(options)
        layer = viewer.add_image(mosaic.picture, scale=(scale, scale), **options)
        layer.mouse_drag_callbacks.append(self._clicked)
        return layer

    def _restore(self) -> None:
        layer, self.layer = self.layer, None
        if layer is None:
            return
        if layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        for other in self._hidden:
            if other in self._viewer.layers:
                other.visible = True
        if self._active in self._viewer.layers:
            self._viewer.layers.selection.active = self._active
        self._hidden, self._active = [], None
        if self._camera is not None and len(self._viewer.layers):
            for name, value in self._camera.items():
                setattr(self._viewer.scene.camera, name, value)
        self._camera = None
        self._mosaic = None

    def _removed(self, event: Any) -> None:
        """Follow a user who deletes the layer of the page."""
        # Equal, not the same: napari hands plugins a proxy of the layer that it removes.
        if self.layer is not None and self.layer == event.value:
            self.button.setChecked(False)

    def _clicked(self, layer: Image, event: Any) -> None:
        if self._mosaic is None or self._patches is None:
            return
        y, x = layer.world_to_data(event.position)[-2:]
        found = self._mosaic.at(y, x)
        if found is not None:
            self._say(describe(self._patches, found))

    def _say(self, text: str) -> None:
        self.message.setText(text)
        self.message.setVisible(bool(text))


def describe(patches: PatchSet, i: int) -> str:
    """Return name, classes, image and split of patch `i`."""
    names = [n for n, on in zip(patches.classes.names, patches.labels[i], strict=True) if on]
    group = "" if patches.groups[i] == patches.names[i] else f", image {patches.groups[i]}"
    classes = " + ".join(names) or "no class"
    return f"{patches.names[i]}: {classes}{group}, {patches.split[i]}"
