"""Names of classes on buttons and in labels, whatever they hold."""

from __future__ import annotations

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import Qt

from napari_wsss.panels.support.class_button import ClassButton
from napari_wsss.panels.support.job_view import JobView


def test_an_ampersand_is_no_key(qtbot):
    button = ClassButton("fat & glands", "#d55e00")
    qtbot.addWidget(button)
    button.resize(300, 30)
    button.show()
    assert button.text() == "fat && glands"
    assert button.toolTip() == button.accessibleName() == "fat & glands"


def test_a_long_name_says_that_it_goes_on(qtbot):
    button = ClassButton("lymphocytes and plasma cells around vessels", "#d55e00")
    qtbot.addWidget(button)
    button.resize(120, 30)
    button.show()
    assert button.text().startswith("lym")
    assert button.text().endswith("…")
    assert button.fontMetrics().horizontalAdvance(button.text()) < 120
    button.resize(600, 30)
    assert button.text() == button.toolTip()


def test_errors_are_shown_letter_by_letter(qtbot):
    view = JobView("Train")
    qtbot.addWidget(view)
    view.show_error(ValueError("class <b>fat</b>\nin two files"))
    assert view.error.textFormat() == view.message.textFormat() == Qt.TextFormat.PlainText
