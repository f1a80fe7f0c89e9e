"""All panels at once, preferences, and the menu as napari builds it."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QDockWidget

from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import Preferences, preferences
from napari_wsss.panels.workspace import PANELS, open_panels


def docks_of(viewer):
    return [w for w in viewer.window.dock_widgets.values() if isinstance(w, Panel)]


def test_all_panels_open_as_tabs_once(viewer, qtbot):
    open_panels(viewer)
    qtbot.wait(50)
    panels = docks_of(viewer)
    assert sorted(p.title for p in panels) == sorted(PANELS)
    docks = {p.title: p._dock() for p in panels}
    first = docks[PANELS[0]]
    window = first.parent()
    tabs = window.tabifiedDockWidgets(first)
    assert {docks[name] for name in PANELS[1:]} <= set(tabs)
    assert not first.widget().visibleRegion().isEmpty(), "the first is in front"
    count = len(window.findChildren(QDockWidget))
    open_panels(viewer)
    assert len(window.findChildren(QDockWidget)) == count


def test_the_menu_runs_it(viewer, qtbot):
    from napari._app_model import get_app_model

    get_app_model().commands.execute_command("napari-wsss.open_panels").result()
    qtbot.wait(50)
    assert len(docks_of(viewer)) == len(PANELS)


def test_preferences_are_what_the_user_set(plugin_settings, npe2pm):
    from napari.settings import get_plugin_settings
    from npe2 import PluginManifest

    if "napari-wsss" not in npe2pm:
        npe2pm.register(PluginManifest.from_distribution("napari-wsss"))

    assert preferences() == Preferences()
    kept = get_plugin_settings("napari-wsss")
    kept.computing.cores_left = 3
    kept.computing.device = "cpu"
    kept.files.work_folder = "~/slides"
    assert preferences() == Preferences(3, "cpu", Path("~/slides").expanduser())
    with pytest.raises(ValueError, match="less than or equal"):
        kept.computing.cores_left = 1000


def test_older_napari_gets_the_defaults(monkeypatch):
    import napari.settings

    monkeypatch.delattr(napari.settings, "get_plugin_settings")
    assert preferences() == Preferences()
    assert preferences().work_folder == Path.home() / "napari-wsss"
