"""Forms made from settings models."""

from __future__ import annotations

import pytest

pytest.importorskip("qtpy.QtWidgets")

from qtpy.QtCore import QPoint, QPointF, Qt
from qtpy.QtGui import QWheelEvent
from qtpy.QtWidgets import QApplication, QLabel

from napari_wsss.errors import SettingsError
from napari_wsss.panels.support.forms import SettingsForm
from napari_wsss.settings import (
    ClassifierSettings,
    InferenceSettings,
    PseudoMaskSettings,
    SegmenterSettings,
)


@pytest.mark.parametrize(
    "model", [ClassifierSettings, SegmenterSettings, PseudoMaskSettings, InferenceSettings]
)
def test_a_form_shows_and_returns_the_defaults(qtbot, model):
    form = SettingsForm(model, [])
    qtbot.addWidget(form)
    assert form.settings() == model()


def test_other_settings_come_back_as_they_are(qtbot):
    form = SettingsForm(ClassifierSettings, ["epochs"], hidden=["pda"])
    qtbot.addWidget(form)
    other = ClassifierSettings.from_dict(
        {
            "epochs": 3,
            "depths": [-2, -1],
            "deep_supervision": True,
            "encoder": {"name": "resnet18", "upscale": 2.5, "output_stride": 8},
            "optimiser": {"encoder_lr": 1e-5},
            "pda": {"enabled": False},
        }
    )
    form.set_settings(other)
    assert form.settings() == other


def test_one_number_where_several_may_be(qtbot):
    form = SettingsForm(ClassifierSettings, ["depths"])
    qtbot.addWidget(form)
    form.set_settings(ClassifierSettings(depths=(-1,)))
    assert form.settings().depths == (-1,)
    form._rows["depths"].widget.value = "-2"
    assert form.settings().depths == (-2,)


def test_auto_or_several_numbers(qtbot):
    form = SettingsForm(PseudoMaskSettings, ["scales", "certainty"])
    qtbot.addWidget(form)
    for text, expected in {"auto": "auto", "2": (2.0,), "0.5, 1": (0.5, 1.0)}.items():
        form._rows["scales"].widget.value = text
        assert form.settings().scales == expected
        assert form._problem.isHidden()
    form._rows["scales"].widget.value = "large"
    assert "scales" in form._problem.text()
    form._rows["scales"].widget.value = "auto"
    form._rows["certainty"].widget.value = "0.5"
    assert form.settings().certainty == 0.5


def test_auto_or_a_number(qtbot):
    form = SettingsForm(InferenceSettings, ["block_px"])
    qtbot.addWidget(form)
    editor = form._rows["block_px"].widget
    for text, value in (("1024", 1024), ("auto", "auto"), (" 512 ", 512)):
        editor.value = text
        assert form.settings().block_px == value


def test_a_value_out_of_bounds_is_said_at_once_and_refused(qtbot):
    form = SettingsForm(ClassifierSettings, ["optimiser.encoder_lr"])
    qtbot.addWidget(form)
    editor = form._rows["optimiser.encoder_lr"].widget
    with qtbot.waitSignal(form.changed):
        editor.value = "7"
    assert "encoder_lr" in form._problem.text()
    assert not form._problem.isHidden()
    with pytest.raises(SettingsError, match="encoder_lr"):
        form.settings()
    editor.value = "0.001"
    assert form._problem.isHidden()
    assert form.settings().optimiser.encoder_lr == 0.001


def test_what_is_hidden_has_no_widget(qtbot):
    form = SettingsForm(ClassifierSettings, [], hidden=["pda", "optimiser.power", "seed"])
    qtbot.addWidget(form)
    for name in ("pda.sigma", "optimiser.power", "seed"):
        assert name not in form._rows
    assert "optimiser.momentum" in form._rows


def test_a_field_that_does_not_exist_is_a_mistake(qapp):
    with pytest.raises(KeyError, match="epoch"):
        SettingsForm(ClassifierSettings, ["epoch"])


def test_every_field_explains_itself(qtbot):
    form = SettingsForm(SegmenterSettings, ["epochs"])
    qtbot.addWidget(form)
    assert all(len(row.widget.native.toolTip()) > 12 for row in form._rows.values())
    texts = {label.text() for label in form.findChildren(QLabel)}
    assert {"Epochs", "Encoder learning rate", "Batch size", "<b>Optimiser</b>"} <= texts


def test_the_wheel_passes_over_a_field(qtbot):
    form = SettingsForm(ClassifierSettings, ["epochs"])
    qtbot.addWidget(form)
    form.show()
    native = form._rows["epochs"].widget.native
    turn = QWheelEvent(
        *(QPointF(5, 5), QPointF(5, 5), QPoint(0, 120), QPoint(0, 120)),
        *(Qt.MouseButton.NoButton, Qt.KeyboardModifier.NoModifier),
        *(Qt.ScrollPhase.NoScrollPhase, False),
    )
    QApplication.sendEvent(native, turn)
    assert form.settings().epochs == ClassifierSettings().epochs


def test_names_of_fields_are_words(qtbot):
    form = SettingsForm(ClassifierSettings, [])
    qtbot.addWidget(form)
    words = {label.text() for label in form.findChildren(QLabel)}
    assert {"<b>Progressive dropout attention</b>", "Colour", "Encoder learning rate"} <= words
