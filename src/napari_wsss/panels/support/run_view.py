"""How a training run goes, on the screen: the epoch that is kept, its curves, held-out patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_wsss.classes import ClassTable
from napari_wsss.jobs import EpochEnd, Event, Examples
from napari_wsss.panels.support.curves import Curves, Scores, best_epoch
from napari_wsss.panels.support.examples import ExampleGrid

if TYPE_CHECKING:
    import napari

__all__ = ["RunView", "best_text"]


class RunView(QWidget):
    """Shows one run, an earlier one or the one that is under way.

    Parameters
    ----------
    viewer
        Its theme gives the colours of the curves.
    scores
        What is drawn, and what the best epoch may be chosen by.
    target
        What the masks of held-out patches are, such as ``"pseudo mask"``; may be changed.
    """

    def __init__(
        self, viewer: napari.viewer.Viewer, scores: Scores, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._scores = scores
        self._classes: ClassTable | None = None
        self._history: list[Mapping[str, float]] = []
        self.target = "target"
        self.result = QLabel()
        self.result.setWordWrap(True)
        self.result.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.curves = Curves(viewer, scores)
        self.examples = ExampleGrid()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (self.result, self.curves, self.examples):
            layout.addWidget(widget)
        self.clear()

    def show_run(
        self, history: Sequence[Mapping[str, float]], epochs: int, classes: ClassTable
    ) -> None:
        """Show the finished epochs of a run; the held-out patches follow with its next one.

        Parameters
        ----------
        history
            Metrics of each epoch, with ``"best"``.
        epochs
            How many epochs the run has in all.
        classes
            Names and colours.
        """
        if list(history) != self._history:
            self.examples.clear()
        self._history, self._classes = list(history), classes
        self._draw(epochs)

    def clear(self) -> None:
        """Show nothing."""
        self._history, self._classes = [], None
        self.examples.clear()
        self._draw(1)

    def on_event(self, event: Event) -> None:
        """Add what an event of the run tells."""
        if self._classes is None:
            return
        if isinstance(event, EpochEnd):
            row = {**event.metrics, "best": float(event.best)}
            self._history = [*self._history[: event.epoch - 1], row]
            self._draw(event.epochs)
        elif isinstance(event, Examples):
            self.examples.show_examples(event.examples, self._classes, self.target, event.epoch)

    def disconnect_viewer(self) -> None:
        """Stop following the theme; for panels that go while the viewer stays."""
        self.curves.disconnect_viewer()

    def _draw(self, epochs: int) -> None:
        self.result.setText(best_text(self._history, self._scores))
        self.setVisible(bool(self._history))
        if self._classes is not None and self._history:
            self.curves.show_history(self._history, self._classes, epochs)
        else:
            self.curves.clear()


def best_text(history: Sequence[Mapping[str, float]], scores: Scores) -> str:
    """Return "Kept epoch 7 of 12, mAP 0.93"; the last epoch where nothing was held out."""
    best = best_epoch(history)
    if best is None:
        return ""
    row = history[best - 1]
    measured = [f"{label} {row[k]:.2f}" for k, label in scores.overall.items() if k in row]
    if not measured:
        return f"The last epoch is kept, {best} so far: nothing is held out to choose by."
    return f"Kept epoch {best} of {len(history)}, {', '.join(measured)}"
