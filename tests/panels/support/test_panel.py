"""The base of all panels: tabs in the order of the work, and a sure end."""

from __future__ import annotations

import gc

import pytest

pytest.importorskip("napari")

from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QDockWidget, QLabel, QScrollArea, QTabBar

from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.panel import Panel


def panel_class(name, place):
    class Example(Panel):
        title, order = name, place

        def __init__(self, viewer):
            super().__init__(viewer)
            self.said = []

        def on_shown(self):
            self.said.append("shown")

        def on_hidden(self):
            self.said.append("hidden")

        def on_close(self):
            self.said.append("closed")

    return Example


def dock_of(panel):
    widget = panel
    while not isinstance(widget, QDockWidget):
        widget = widget.parentWidget()
    return widget


def test_tabs_stand_in_the_order_of_the_work(add_panel, qtbot):
    second = add_panel(panel_class("B", 2))
    third = add_panel(panel_class("C", 3))
    first = add_panel(panel_class("A", 1))
    window = first.window()
    docks = [dock_of(p) for p in (first, second, third)]
    # Some versions of Qt show a new dock only in the next round of events.
    qtbot.waitUntil(lambda: set(window.tabifiedDockWidgets(docks[0])) == set(docks[1:]))
    bars = window.findChildren(QTabBar)
    assert ["A", "B", "C"] in [[bar.tabText(i) for i in range(bar.count())] for bar in bars]
    assert all(not dock.isHidden() for dock in docks)


@pytest.mark.parametrize("order", ["ABCD", "DCBA", "BDAC"])
def test_panels_that_are_opened_in_one_go_are_all_there(viewer, qtbot, order):
    """Some are not shown yet when the next one comes."""
    panels = {}
    for name in order:
        panel = panels[name] = panel_class(name, "ABCD".index(name))(viewer)
        viewer.window.add_dock_widget(panel, name=name, area="right")
    qtbot.wait(50)  # each comes to the front when it is first shown
    window = panel.window()
    for panel in panels.values():
        dock_of(panel).raise_()
        qtbot.waitUntil(lambda panel=panel: panel.said[-1:] == ["shown"] and panel.isVisible())
        assert [p.said[-1:] for p in panels.values()].count(["shown"]) == 1
    bars = window.findChildren(QTabBar)
    assert list("ABCD") in [[bar.tabText(i) for i in range(bar.count())] for bar in bars]


def test_docks_that_were_moved_stay(viewer, qtbot):
    """Also where nothing in Python refers to them, as with PyQt6 that would end them."""
    for name in "BCA":
        panel = panel_class(name, "ABC".index(name))(viewer)
        viewer.window.add_dock_widget(panel, name=name, area="right")
        qtbot.wait(20)
    del panel
    gc.collect()
    assert sorted(viewer.window.dock_widgets) == ["A", "B", "C"]


def test_closing_the_viewer_ends_every_panel_once(add_panel, viewer):
    panels = [add_panel(panel_class(n, i)) for i, n in enumerate("AB")]
    viewer.close()
    for panel in panels:
        assert panel.said.count("closed") == 1
        assert panel.said[-2:] == ["hidden", "closed"]


def test_removing_a_dock_ends_its_panel(add_panel, viewer, qtbot):
    panel = add_panel(panel_class("A", 1))
    said = panel.said
    viewer.window.remove_dock_widget(panel)
    del panel
    qtbot.wait(20)
    assert said.count("closed") <= 1


def test_going_to_another_tab_hides_it(add_panel, qtbot):
    one, two = (add_panel(panel_class(n, i)) for i, n in enumerate("AB"))
    for panel in (one, two):
        dock_of(panel).raise_()
        qtbot.wait(50)
    assert one.said[-1] == "hidden"
    assert two.said[-1] == "shown"
    for panel in (one, two):  # in turn, each once
        assert panel.said == ["shown", "hidden"] * (len(panel.said) // 2) + ["shown"] * (
            len(panel.said) % 2
        )


def test_a_panel_that_is_opened_comes_to_the_front(add_panel, qtbot):
    panels = [add_panel(panel_class(n, -i)) for i, n in enumerate("ABC")]
    qtbot.waitUntil(lambda: [p.said[-1:] for p in panels] == [["hidden"]] * 2 + [["shown"]])


def test_a_viewer_that_asks_back_and_stays_keeps_its_panels(add_panel, qtbot, monkeypatch):
    panel = add_panel(panel_class("A", 1))
    window = panel.window()
    with monkeypatch.context() as patch:
        patch.setattr(type(window), "closeEvent", lambda self, event: event.ignore())
        window.close()
    assert panel.said == ["shown"]


def test_the_guide_and_sections(add_panel, qtbot):
    panel = add_panel(panel_class("A", 1))
    panel.say("Open a slide first.")
    layout = panel.section("Rare things", folded=True)
    label = QLabel("rare")
    layout.addWidget(label)
    assert panel._guide.text() == "Open a slide first."
    assert not label.isVisible()
    assert panel.findChild(QScrollArea) is not None


def drop(widget, path):
    """Drop a file on a widget, as Qt does; returns whether it was taken."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    how = Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entering = QDragEnterEvent(QPoint(5, 5), *how)
    entering.ignore()
    widget.dragEnterEvent(entering)
    if entering.isAccepted():
        widget.dropEvent(QDropEvent(QPointF(5, 5), *how))
    return entering.isAccepted()


def test_a_panel_with_a_path_takes_what_is_dropped_anywhere_on_it(add_panel, tmp_path):
    class Taking(panel_class("A", 1)):
        def __init__(self, viewer):
            super().__init__(viewer)
            self.path = PathField("folder", "Folder")
            self.body.addWidget(self.path)

    taking = add_panel(Taking)
    assert taking.acceptDrops()
    assert drop(taking, tmp_path)
    assert taking.path.path == tmp_path
    other = add_panel(panel_class("B", 2))
    assert not other.acceptDrops(), "napari opens it as a layer"
    assert not drop(other, tmp_path)
