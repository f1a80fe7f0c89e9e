"""What is done once the event that is being handled is over."""

from __future__ import annotations

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtWidgets import QPushButton, QWidget

from napari_wsss.panels.support.later import soon


def test_it_is_done_once_and_not_at_once(qtbot):
    owner, done = QWidget(), []
    qtbot.addWidget(owner)
    soon(owner, lambda: done.append(1))
    assert done == []
    qtbot.wait(30)
    assert done == [1]
    assert owner.children() == [], "its timer is gone"


def test_nothing_is_done_for_an_owner_that_is_gone(qtbot):
    """The wrapper in Python outlives the widget, which Qt deletes with its parent."""
    parent = QWidget()
    owner, done = QPushButton(parent), []
    owner.destroyed.connect(lambda: done.append("deleted"))
    parent.deleteLater()
    soon(owner, lambda: done.append(owner.text()))
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
    qtbot.wait(30)
    assert done == ["deleted"]
