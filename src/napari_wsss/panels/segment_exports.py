"""The part of the segment panel that saves a finished result for other programs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.segment_jobs import ExportKind, export_job
from napari_wsss.panels.support.job_view import JobView

if TYPE_CHECKING:
    from napari.layers import Layer

__all__ = ["ExportButtons"]

_KINDS: tuple[tuple[ExportKind, str, str], ...] = (
    ("geojson", "GeoJSON", "Outlines with class, colour and area, for QuPath."),
    ("csv", "CSV", "A table of areas and shares, counted at full resolution."),
    ("picture", "Picture", "The colours over the slide with legend and scale bar, as PNG."),
)


class ExportButtons(QWidget):
    """One click each: a file beside the result, and a line that says where it is.

    Parameters
    ----------
    slide
        Returns the slide layer for pictures and the µm/px that the user gave for it.
    """

    def __init__(
        self,
        slide: Callable[[], tuple[Layer | None, float | None]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._slide = slide
        self._path: Path | None = None
        self.job = JobView("", stop="Stop")
        self.job.button.setVisible(False)
        grid = QGridLayout()
        grid.setSpacing(4)
        self.buttons: dict[str, QPushButton] = {}
        for i, (kind, text, tip) in enumerate(_KINDS):
            button = QPushButton(text)
            button.setToolTip(f"<p>{tip} Written beside the result.</p>")
            button.clicked.connect(partial(self._export, kind))
            grid.addWidget(button, 0, i)
            self.buttons[kind] = button
        self.folder = QPushButton("Show OME-Zarr folder")
        self.folder.setToolTip(
            "<p>The result itself is an OME-Zarr folder: labels and uncertainty, which napari, "
            "Fiji and Python read. This shows where it is.</p>"
        )
        self.folder.clicked.connect(self._reveal)
        grid.addWidget(self.folder, 1, 0, 1, len(_KINDS))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(grid)
        layout.addWidget(self.job)
        self.job.runner.started.connect(self._update)
        self.job.runner.finished.connect(self._written)
        self.job.runner.ended.connect(self._update)
        self.set_result(None)

    def set_result(self, path: Path | None) -> None:
        """Offer to export the finished result at `path`; None offers nothing."""
        if path != self._path and not self.job.runner.running:
            self.job.clear()
        self._path = path
        self._update()

    def _export(self, kind: ExportKind) -> None:
        path, (layer, mpp) = self._path, self._slide()
        if path is None or self.job.runner.running:
            return

        def make(cancel: CancelToken) -> Job[Path]:
            return export_job(path, kind, layer, mpp, cancel)

        self.job.run("Export", make, lane="export")

    def _written(self, file: Path) -> None:
        self.job.say(f"Written: {file}")

    def _reveal(self) -> None:
        if self._path is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._path.parent)))

    def _update(self) -> None:
        running = self.job.runner.running
        self.job.button.setVisible(running)
        for button in self.buttons.values():
            button.setEnabled(self._path is not None and not running)
        self.folder.setEnabled(self._path is not None)
