"""Explaining one patch or region after the other, and what is shown of the last."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from napari.layers import Layer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_wsss.cams.explanation import FUSED
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.cams_cells import cells_of, label_pixels, patch_place
from napari_wsss.panels.cams_depth import MapChoice
from napari_wsss.panels.cams_grid import CellGrid
from napari_wsss.panels.cams_view import ViewBox
from napari_wsss.panels.cams_work import Found
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.settings import PseudoMaskSettings

__all__ = ["ExplainingBox"]

#: Milliseconds after which the numbers follow the slider; the mask follows at once.
_NUMBERS_MS = 120
#: Larger explanations are not kept while another map of the same image is looked at.
_KEPT_BYTES = 256 << 20


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
    choice
        The map that is wanted; `choose` sets it for what is shown.
    found
        The last explanation.
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
        self._index = FUSED  # of the map that is shown, among those of `found`
        self.choice: MapChoice | None = None
        self._making = ""
        self._kept: dict[str, Found] = {}
        self._keep = False
        self._layers: tuple[Layer, ...] = ()
        self._again = self._dropped = self._stopped = False
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
        self.view.threshold_changed.connect(self._threshold_moved)

    @property
    def showing(self) -> bool:
        """Whether the cells in view are those of an explanation."""
        return self.found is not None and self._grid.showing and self._grid.layers == self._layers

    def choose(self, choice: MapChoice) -> None:
        """Show another map of what is shown; it is made if it was not made before."""
        self.choice = choice
        running = self.look.runner.running
        kept = self._kept.get(choice.method)
        if running and not self._again and choice.method == self._making:
            return  # its end shows this one
        if kept is not None and self.showing:
            if running:
                self._again, self._dropped = False, True
                self.look.runner.cancel()
            self._take(kept)
        elif running:
            self._explain(keep=self._keep)
        elif self.showing:
            self._explain(keep=True)

    def explain(self) -> None:
        """Explain what is chosen; what is being explained is given up for it."""
        self._explain(keep=False)

    def forget(self) -> None:
        """Make maps anew when they are looked at: they were of another model or data set."""
        self._kept.clear()

    def _explain(self, *, keep: bool) -> None:
        """Explain; `keep` says that it is the same image once more, by another method."""
        self._keep = keep
        if not keep:
            self.forget()
        if self.look.runner.running:
            self._again = True
            self.look.runner.cancel()
            return
        make = self._maker()
        if make is not None:
            self._making = "" if self.choice is None else self.choice.method
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
        self._grid.show(cells_of(found, place, self._index, self._mask(found)), fit=fit)
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
        before = self.found
        if before is None or (before.name, before.place) != (found.name, found.place):
            self.forget()
        if self.choice is None or found.method == self.choice.method:
            self._take(found)

    def _take(self, found: Found) -> None:
        """Show an explanation, and keep it while other maps of the same image are looked at."""
        before, self.found = self.found, found
        if _size(found) > _KEPT_BYTES:
            self.forget()
        self._kept[found.method] = found
        self._index = FUSED if self.choice is None else self.choice.index
        moved = before is None or before.place != found.place or before.shape != found.shape
        self.view.set_found(found, choose_label=found.place is not None)
        self.look.clear()
        # What is explained while another panel is in front is shown on coming back.
        if self.isVisible():
            self.show_cells(fit=moved or not self._grid.showing)

    def _ended(self) -> None:
        again, self._again = self._again, False
        dropped, self._dropped = self._dropped, False
        if again and not self._stopped:
            self._explain(keep=self._keep)
        elif dropped:
            self.look.clear()  # nobody stopped it, and nothing is to be started again

    # -- what is shown ----------------------------------------------------------------------

    def _threshold_moved(self, _: float) -> None:
        if self.found is not None and self.showing:
            layer = self._grid.over(len(self.found.explanation.classes))
            # In place: nothing but these pixels changes, so nothing else needs to be updated.
            layer.data[...] = label_pixels(self._mask(self.found))
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            self._numbers.start()

    def _mask(self, found: Found) -> NDArray[np.uint8]:
        return found.explanation.pseudo_mask(
            self._index,
            self.view.threshold.value(),
            self.settings.least_certainty,
        )

    def _show_numbers(self) -> None:
        if self.found is not None:
            self.view.show_mask(self._mask(self.found), self.settings)


def _size(found: Found) -> int:
    """Return the bytes of the arrays of an explanation."""
    shown = found.explanation
    return sum(a.nbytes for a in (shown.maps, shown.masks, shown.strength, shown.image))
