"""What all dock panels share: a line that guides, a body that scrolls, tabs in order."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, ClassVar

from qtpy.QtCore import QEvent, QObject, Qt, QTimer
from qtpy.QtGui import (
    QCloseEvent,
    QDragEnterEvent,
    QDropEvent,
    QHideEvent,
    QResizeEvent,
    QShowEvent,
)
from qtpy.QtWidgets import (
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.fold import folding
from napari_wsss.panels.support.later import soon
from napari_wsss.panels.support.opengl_context import guard_removals
from napari_wsss.panels.support.state import state_of

if TYPE_CHECKING:
    import napari

__all__ = ["Panel"]

_TABS_BESIDE = {
    Qt.DockWidgetArea.RightDockWidgetArea: QTabWidget.TabPosition.East,
    Qt.DockWidgetArea.LeftDockWidgetArea: QTabWidget.TabPosition.West,
}


class Panel(QWidget):
    """Base class of the dock panels.

    Parameters
    ----------
    viewer
        The viewer it works in.

    Attributes
    ----------
    title, order
        Name of the panel and its place in the work; tabs stand in this order.
    viewer, state
        The viewer, and what its panels hand to each other.
    body
        Layout for the panel's widgets.

    Notes
    -----
    A panel with a `PathField` called ``path`` takes what is dropped anywhere on it for that field;
    what is dropped on the others goes to napari.
    """

    title: ClassVar[str]
    order: ClassVar[int]

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self.viewer = viewer
        self.state = state_of(viewer)
        self._closed = self._front = False
        self._joined: QDockWidget | None = None
        self.setObjectName(f"napari-wsss {self.title}")
        self._guide = QLabel()
        self._guide.setTextFormat(Qt.TextFormat.PlainText)  # it names files and classes
        self._guide.setWordWrap(True)
        self._guide.setObjectName("guide")
        inner = QWidget()
        self.body = QVBoxLayout(inner)
        self.body.setContentsMargins(8, 4, 8, 8)
        self.body.setSpacing(6)
        self.body.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.body.addWidget(self._guide)
        scroll = _VerticalScroll()
        scroll.setWidget(inner)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(280)
        self.destroyed.connect(_Closer(self))

    # -- for the panels ---------------------------------------------------------------

    def say(self, text: str) -> None:
        """Show the line at the top: what is needed here, or what comes next."""
        self._guide.setText(text)
        self._guide.setVisible(bool(text))

    def section(self, title: str, *, folded: bool = False) -> QVBoxLayout:
        """Add a group that can be folded away; returns the layout of its content."""
        group, layout = folding(title, folded=folded)
        self.body.addWidget(group)
        return layout

    def on_close(self) -> None:
        """Cancel jobs and put the viewer back as it was; called once, when the panel goes."""

    def on_shown(self) -> None:
        """Do what a panel does when it comes to the front, such as binding its keys."""

    def on_hidden(self) -> None:
        """Undo `on_shown`: another tab came to the front, or the panel goes."""

    # -- events of Qt -----------------------------------------------------------------

    def close_panel(self) -> None:
        """Let the panel go: `on_hidden` if it is in front, then `on_close`, once."""
        if not self._closed:
            self._set_front(False)
            self._closed = True
            self.on_close()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Come to the front, the first time into the tabs of our panels."""
        super().showEvent(event)
        if event is not None and not event.spontaneous():
            self._join_window()
            self._set_front(True)
            self.setAcceptDrops(self._drop_field() is not None)

    def hideEvent(self, event: QHideEvent | None) -> None:
        """Leave the front."""
        super().hideEvent(event)
        if event is not None and not event.spontaneous():
            self._set_front(False)

    def dragEnterEvent(self, event: QDragEnterEvent | None) -> None:
        """Take what the panel's field takes."""
        field = self._drop_field()
        if field is not None:
            field.dragEnterEvent(event)

    def dropEvent(self, event: QDropEvent | None) -> None:
        """Let the panel's field have it."""
        field = self._drop_field()
        if field is not None:
            field.dropEvent(event)

    def closeEvent(self, event: QCloseEvent | None) -> None:
        """Go."""
        self.close_panel()
        super().closeEvent(event)

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Notice that the window was closed, which no widget in it is told.

        That it hides, not that it is asked to close: napari may ask back, and stay.
        """
        hidden = event is not None and event.type() == QEvent.Type.Hide
        if hidden and watched is self._window() and not event.spontaneous():  # type: ignore[union-attr]
            self.close_panel()
        return super().eventFilter(watched, event)

    def _drop_field(self) -> PathField | None:
        field = getattr(self, "path", None)
        return field if isinstance(field, PathField) else None

    def _set_front(self, front: bool) -> None:
        if front != self._front and not self._closed:
            self._front = front
            (self.on_shown if front else self.on_hidden)()

    def _window(self) -> QMainWindow | None:
        window = self.window()
        return window if isinstance(window, QMainWindow) else None

    def _join_window(self) -> None:
        window, dock = self._window(), self._dock()
        if window is None or dock is None or dock is self._joined:
            return
        self._joined = dock
        window.installEventFilter(self)
        guard_removals(self.viewer, window)
        # Tabs that are covered stay visible for Qt; only their docks are told.
        dock.visibilityChanged.connect(self._set_front)
        _tabify(window)
        soon(self, self._raise)

    def _raise(self) -> None:
        """Bring the dock to the front, if it is still there: a viewer may close meanwhile."""
        dock = None if self._closed else self._dock()
        if dock is not None:
            dock.raise_()

    def _dock(self) -> QDockWidget | None:
        widget = self.parentWidget()
        while widget is not None and not isinstance(widget, QDockWidget):
            widget = widget.parentWidget()
        return widget


class _Closer:
    """Lets a panel go that is destroyed without having been closed, as when a viewer ends."""

    def __init__(self, panel: Panel) -> None:
        # The instance's Python side lives on until its last reference is gone.
        self._close = panel.close_panel

    def __call__(self, *_: object) -> None:
        self._close()


class _VerticalScroll(QScrollArea):
    """Scrolls up and down only: its content is as wide as the dock."""

    def __init__(self) -> None:
        super().__init__()
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)
        self._settled = QTimer(self)
        self._settled.setSingleShot(True)
        self._settled.setInterval(0)
        self._settled.timeout.connect(self._fit)

    def resizeEvent(self, event: QResizeEvent | None) -> None:
        """Follow the width."""
        super().resizeEvent(event)
        self._fit()

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Follow the content."""
        done = super().eventFilter(watched, event)
        if event is not None and event.type() == QEvent.Type.LayoutRequest:
            # Once the layouts within have taken notice, one after the other.
            self._settled.start()
        return done

    def _fit(self) -> None:
        """Make the content as high as its wrapped text needs, which Qt's class does not ask."""
        content, viewport = self.widget(), self.viewport()
        layout = None if content is None else content.layout()
        if content is None or layout is None or viewport is None:
            return
        if layout.hasHeightForWidth():
            height = layout.totalHeightForWidth(viewport.width())
        else:
            height = layout.totalMinimumSize().height()
        if content.minimumHeight() != height:
            content.setMinimumHeight(height)


def _tabify(window: QMainWindow) -> None:
    """Stack the docks of our panels as tabs, in the order of the work."""
    docks = {}
    for dock in window.findChildren(QDockWidget):
        panel = dock.findChild(Panel)
        if panel is not None and not dock.isFloating():
            docks[dock] = panel.order
            dock.setWindowTitle(panel.title)  # of the tab; without the plugin's name
    ordered = sorted(docks, key=lambda dock: docks[dock])
    together = set(window.tabifiedDockWidgets(ordered[0])) if ordered else set()
    if len(ordered) < 2 or together >= set(ordered[1:]):
        return
    first = len(list(itertools.takewhile(lambda dock: dock in together, ordered[1:])))
    # A dock that has tabs beside it stays where it is since Qt 6.12, wherever it is put.
    taken = [dock for dock in ordered[first + 1 :] if window.tabifiedDockWidgets(dock)]
    shown = [dock for dock in taken if not dock.isHidden()]
    for dock in taken:
        window.removeDockWidget(dock)
    area = window.dockWidgetArea(ordered[0])
    for left, right in itertools.pairwise(ordered[first:]):
        if right in taken:
            # Or it would be Python's, with PyQt6, and end when nothing refers to it there.
            window.addDockWidget(area, right)
        window.tabifyDockWidget(left, right)
    for dock in shown:
        dock.show()
    # Beside the docks: below them, the names would be cut to their first letters.
    if area in _TABS_BESIDE:
        window.setTabPosition(area, _TABS_BESIDE[area])
