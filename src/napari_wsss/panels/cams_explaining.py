"""Explaining one patch or region after the other, and what is shown of the last."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.cams_cells import cells_of, label_pixels, patch_place
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_view import ViewBox
from napari_wsss.panels.cams_work import Found
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.settings import PseudoMaskSettings

__all__ = ["ExplainingBox"]

#: Milliseconds after which the numbers follow the slider; the mask follows at once.
_NUMBERS_MS = 120


class ExplainingBox(QWidget):
    """Explains what is chosen, and shows it in the grid.

    Parameters
    ----------
    grid
        The cells.
    maker
        Returns what makes the job that explains what is chosen now; None if something is
        missing.
    users_mpp
        Returns what the user's own layers say of their µm/px.

    Attributes
    ----------
    shown
        Signal: cells are shown.
    look, view
        The job, and the controls of what is shown.
    settings
        Of the pseudo masks; what of them needs no map to be made anew is followed at once.
    """

    shown = Signal()

    def __init__(
        self,
        grid: CellGrid,
        maker: Callable[[], Callable[[CancelToken], Job[Found]] | None],
        users_mpp: Callable[[], list[float | None]],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._grid, self._maker, self._users_mpp = grid, maker, users_mpp
        self.found: Found | None = None
        self.settings = PseudoMaskSettings()
        self._layers: tuple[Layer, ...] = ()
        self._again = self._stopped = False
        self.look = JobView("Show class maps")
        self.view = ViewBox()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.look)
        layout.addWidget(self.view)
        self._numbers = QTimer(self)
        self._numbers.setSingleShot(True)
        self._numbers.setInterval(_NUMBERS_MS)
        self._numbers.timeout.connect(self._show_numbers)
        self.look.requested.connect(self.explain)
        self.look.runner.finished.connect(self._explained)
        self.look.runner.ended.connect(self._ended)
        self.view.depth_changed.connect(self._depth_changed)
        self.view.threshold_changed.connect(self._threshold_moved)

    @property
    def showing(self) -> bool:
        """Whether the cells in view are those of an explanation."""
        return self.found is not None and self._grid.showing and self._grid.layers == self._layers

    def explain(self) -> None:
        """Explain what is chosen; what is being explained is given up for it."""
        if self.look.runner.running:
            self._again = True
            self.look.runner.cancel()
            return
        make = self._maker()
        if make is not None:
            self.look.run("Class maps", make)

    def show_cells(self, *, fit: bool) -> None:
        """Show the last explanation in the grid.

        Parameters
        ----------
        fit
            Move the camera so that it is in view.
        """
        found = self.found
        if found is None:
            return
        place = found.place
        if place is None:
            place = patch_place(found.mpp, self._users_mpp())
        depth = self.view.depth_box.currentIndex()
        self._grid.show(cells_of(found, place, depth, self._mask(found)), fit=fit)
        self._layers = self._grid.layers
        self._show_numbers()
        self.shown.emit()

    def stop(self) -> None:
        """Give up what is being explained, for good."""
        self._again, self._stopped = False, True
        self.look.runner.cancel()

    # -- explaining -----------------------------------------------------------------------

    def _explained(self, found: Found) -> None:
        if self._stopped or self._again:
            return
        before, self.found = self.found, found
        moved = before is None or before.place != found.place or before.shape != found.shape
        self.view.set_found(found, choose_label=found.place is not None)
        self.look.clear()
        # What is explained while another panel is in front is shown on coming back.
        if self.isVisible():
            self.show_cells(fit=moved or not self._grid.showing)

    def _ended(self) -> None:
        again, self._again = self._again, False
        if again and not self._stopped:
            self.explain()

    # -- what is shown ----------------------------------------------------------------------

    def _depth_changed(self, _: int) -> None:
        if self.showing:
            self.show_cells(fit=False)

    def _threshold_moved(self, _: float) -> None:
        if self.found is not None and self.showing:
            layer = self._grid.over(len(self.found.explanation.classes))
            # In place: nothing but these pixels changes, so nothing else needs to be updated.
            layer.data[...] = label_pixels(self._mask(self.found))
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            self._numbers.start()

    def _mask(self, found: Found) -> NDArray[np.uint8]:
        return found.explanation.pseudo_mask(
            self.view.depth_box.currentIndex(),
            self.view.threshold.value(),
            self.settings.least_certainty,
        )

    def _show_numbers(self) -> None:
        if self.found is not None:
            self.view.show_mask(self._mask(self.found), self.settings)
