"""The hand that labels: keys, clicks and strokes in the viewer become labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QKeyEvent

from napari_wsss.errors import WsssError
from napari_wsss.panels.label_keys import CLASS_KEYS, MORE_KEY, KeyBinder
from napari_wsss.panels.label_layer import GridLayer
from napari_wsss.panels.label_session import LabelSession
from napari_wsss.patches import LEFT_OUT

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

__all__ = ["LabelHand"]


class LabelHand(QObject):
    """Labels the patches of a session in a viewer.

    Parameters
    ----------
    viewer, slide_layer
        Where, and over what.
    session
        The session.

    Attributes
    ----------
    changed
        Signal: labels, the current patch or the brush changed.
    failed
        Signal with a `WsssError`, such as a label that could not be stored.
    gone
        Signal: the user removed the grid or the slide.
    grid
        What is drawn.
    brush
        Code that painting gives to patches.
    painting
        Whether dragging paints, and keys choose the brush.
    further
        Whether the next key of a class means one of those that have two keys.
    """

    changed = Signal()
    failed = Signal(object)
    gone = Signal()

    def __init__(
        self, viewer: napari.viewer.Viewer, slide_layer: Layer, session: LabelSession
    ) -> None:
        super().__init__()
        self._viewer, self._slide_layer, self.session = viewer, slide_layer, session
        self.grid = GridLayer(viewer, slide_layer, session.labels, session.offered)
        self.brush, self.painting = 1, False
        self.further = False
        self._taken = False
        self._keys = KeyBinder(self._actions())
        self._pan: bool | None = None
        viewer.layers.events.removed.connect(self._layer_removed)
        viewer.layers.selection.active = self.grid.layer
        self.grid.point_at(session.current, follow=True, zoom=True)

    # -- taking the keys ----------------------------------------------------------------

    def take(self) -> None:
        """Bind keys and mouse, and show the current patch; done already, it does nothing."""
        if self._taken or not self.grid.shown:
            return
        self._taken = True
        self.grid.layer.visible = True
        self._viewer.layers.selection.active = self.grid.layer
        self._keys.bind(self._viewer, self.grid.layer)
        self._viewer.mouse_drag_callbacks.append(self._drag)
        self.grid.point_at(self.session.current)
        self._hold_view()

    def let_go(self) -> None:
        """Give keys and mouse back, and hide the grid: other panels show the slide itself."""
        if not self._taken:
            return
        self._taken = False
        self._keys.unbind()
        self._viewer.mouse_drag_callbacks.remove(self._drag)
        self.grid.point_at(None)
        if self.grid.shown:
            self.grid.layer.visible = False
        self._hold_view()

    def close(self) -> None:
        """Give everything back and remove the layer."""
        self.let_go()
        self._viewer.layers.events.removed.disconnect(self._layer_removed)
        self.grid.remove()

    def press(self, event: QKeyEvent) -> bool:
        """Do what a key does; returns whether it does anything."""
        return self._taken and self._keys.press(event)

    # -- what keys and buttons do -------------------------------------------------------

    @property
    def code(self) -> int:
        """Code of the brush while painting, else of the current patch."""
        return (
            self.brush if self.painting else int(self.session.labels.codes[self.session.current])
        )

    def do(self, name: str) -> None:
        """Do a command of the board by its name."""
        commands: dict[str, Callable[[], None]] = {
            "next": self.next,
            "left_out": self.leave_out,
            "clear": self.clear,
            "undo": lambda: self._travel(self.session.labels.undo),
            "redo": lambda: self._travel(self.session.labels.redo),
        }
        commands[name]()

    def toggle(self, index: int) -> None:
        """Add a class to the patch (or the brush), or take it away."""
        if index >= len(self.session.labels.classes):
            return
        if self.painting:
            self._set_brush((self.brush & (LEFT_OUT - 1)) ^ (1 << index))
        else:
            self._label(lambda: self.session.labels.toggle(self.session.current, index))

    def only(self, index: int) -> None:
        """Give the patch this class alone and go on to the next; or choose it as the brush."""
        if index < len(self.session.labels.classes):
            self._decide(1 << index)

    def leave_out(self) -> None:
        """Leave the patch out and go on to the next; or let the brush leave patches out."""
        self._decide(LEFT_OUT)

    def clear(self) -> None:
        """Take all labels of the patch away; or let the brush do so."""
        if self.painting:
            self._set_brush(0)
        else:
            self._label(lambda: self.session.labels.assign([self.session.current], 0))

    def next(self) -> None:
        """Go on to the patch to label next."""
        cell = self.session.next()
        if cell is not None:
            self._go(cell)

    def set_painting(self, on: bool) -> None:
        """Let drags paint (or move the view)."""
        if on != self.painting:
            self.painting = on
            self._hold_view()
            self.changed.emit()

    def classes_changed(self) -> None:
        """Draw names and colours anew."""
        self.grid.recolor()
        self.grid.redraw()
        self.brush &= (1 << len(self.session.labels.classes)) - 1 | LEFT_OUT
        self.changed.emit()

    def _actions(self) -> dict[str, Callable[[], None]]:
        actions: dict[str, Callable[[], None]] = {
            "N": self.next,
            "B": self.leave_out,
            "Delete": self.clear,
            "Backspace": self.clear,
            MORE_KEY: self._go_further,
            "Ctrl-Z": partial(self.do, "undo"),
            "Ctrl-Shift-Z": partial(self.do, "redo"),
        }
        for name, step in (
            ("Up", (-1, 0)),
            ("Down", (1, 0)),
            ("Left", (0, -1)),
            ("Right", (0, 1)),
        ):
            actions[name] = partial(self._step, *step)
        for index, key in enumerate(CLASS_KEYS):
            actions[key] = partial(self._with_key, self.toggle, index)
            actions[f"Shift-{key}"] = partial(self._with_key, self.only, index)
        return actions

    def _with_key(self, act: Callable[[int], None], index: int) -> None:
        """Act on the class of a key, or on that of both keys."""
        if self.further:
            index += len(CLASS_KEYS)
            self.further = False
            self.changed.emit()
        act(index)

    def _go_further(self) -> None:
        """Let the next key mean a class that has two; pressed again, take it back."""
        if len(self.session.labels.classes) > len(CLASS_KEYS):
            self.further = not self.further
            self.changed.emit()

    def _decide(self, code: int) -> None:
        if self.painting:
            self._set_brush(code)
        else:
            self._label(
                lambda: self.session.labels.assign([self.session.current], code), tell=False
            )
            following = self.session.next()
            self._go(self.session.current if following is None else following)

    def _step(self, rows: int, columns: int) -> None:
        self._go(self.session.neighbour(rows, columns))

    def _go(self, cell: int, *, follow: bool = True) -> None:
        self.session.current = cell
        self.further = False
        self.grid.point_at(cell, follow=follow)
        self.changed.emit()

    def _set_brush(self, code: int) -> None:
        self.brush = code
        self.changed.emit()

    def _label(self, change: Callable[[], NDArray[np.int64]], *, tell: bool = True) -> None:
        try:
            cells: NDArray[np.int64] | None = change()
        except WsssError as error:
            # The label is set, only not stored; which patches, the error does not say.
            cells = None
            self.failed.emit(error)
        self.grid.redraw(cells)
        if tell:
            self.changed.emit()

    def _travel(self, step: Callable[[], NDArray[np.int64]]) -> None:
        """Undo or redo, and show a patch that changed."""

        def change() -> NDArray[np.int64]:
            cells = step()
            if len(cells):
                self.session.current = int(cells[0])
            return cells

        self._label(change)
        self.grid.point_at(self.session.current, follow=True)

    # -- the mouse ----------------------------------------------------------------------

    def _drag(self, viewer: Any, event: Any) -> Iterator[None]:
        """Follow a press of the mouse to its release; napari's form of a drag."""
        if event.button != 1 or not self.grid.shown:
            return
        modifiers = {str(m).lower() for m in event.modifiers}
        paint = modifiers == {"shift"} or (self.painting and not modifiers)
        if not paint and modifiers:
            return
        last = self.grid.place(event.position)
        moved = begun = False
        if paint:
            begun = self._paint(self.session.cells_between(last, last), join=False)
        yield
        while event.type == "mouse_move":
            moved = True
            now = self.grid.place(event.position)
            if paint:
                begun |= self._paint(self.session.cells_between(last, now), join=begun)
                last = now
            yield
        if not paint and not moved and (cell := self.session.cell(*last)) is not None:
            self._go(cell, follow=False)

    def _paint(self, cells: NDArray[np.int64], *, join: bool) -> bool:
        """Give cells the brush, or what the current patch has; returns whether any changed."""
        fresh = cells[self.session.labels.codes[cells] != self.code]
        if len(fresh):
            self._label(lambda: self.session.labels.assign(fresh, self.code, join=join))
        return bool(len(fresh))

    def _hold_view(self, event: object = None) -> None:
        """Keep the view still while drags paint; napari moves it unless the layer says no."""
        if self.grid.shown:
            self.grid.layer.mouse_pan = not (self.painting and self._taken)

    def _layer_removed(self, event: object = None) -> None:
        if not self.grid.shown or self._slide_layer not in self._viewer.layers:
            self.gone.emit()
