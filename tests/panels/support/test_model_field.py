"""Choosing a registered model or a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.panels.support.model_field import ModelField


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """Two models of the user, of which only the names matter here."""
    file = tmp_path / "models.toml"
    monkeypatch.setenv("NAPARI_WSSS_MODELS", str(file))
    digest = hashlib.sha256().hexdigest()
    (tmp_path / "breast.md").write_text("# Breast\n\nNot for *lung*.")
    rows = [
        f'[[model]]\nname = "breast"\nfile = "b.safetensors"\nsha256 = "{digest}"\n'
        'purpose = "Breast <20x>"\ncard = "breast.md"\n',
        f'[[model]]\nname = "far"\nurl = "https://example.org/f"\nsha256 = "{digest}"\n',
    ]
    file.write_text("".join(rows))
    return file


@pytest.fixture
def field(registry, qtbot):
    found = ModelField("Trained model")
    qtbot.addWidget(found)
    return found


def offered(field):
    return [field.choices.itemText(i) for i in range(field.choices.count())]


def test_all_registered_models_are_offered_and_none_is_chosen(field):
    assert offered(field)[-2:] == ["breast", "far"]
    assert field.path is None
    assert field.line.placeholderText() == "Trained model"
    assert field.about.isHidden()


def test_choosing_one_says_what_it_is_for(field, qtbot):
    said = []
    field.changed.connect(said.append)
    row = offered(field).index("breast")
    field.choices.setCurrentIndex(row)
    field.choices.textActivated.emit("breast")
    assert said == [Path("breast")]
    assert field.path == Path("breast")
    assert "Breast &lt;20x&gt;" in field.about.text()
    field.about.linkActivated.emit("card")
    assert "Not for lung." in field._card.text.toPlainText()
    field._card.close()


def test_a_file_is_no_registered_model(field, tmp_path):
    said = []
    field.changed.connect(said.append)
    field.path = tmp_path / "own.safetensors"
    assert field.registered is None
    assert field.about.isHidden()
    field.path = None
    assert said == [tmp_path / "own.safetensors", None]


def test_typing_a_name_is_choosing_it(field):
    field.line.setText("far")
    field.line.editingFinished.emit()
    assert field.registered.entry.url == "https://example.org/f"


def test_opening_the_list_reads_the_registry_anew_and_keeps_the_choice(field, registry):
    field.path = Path("far")
    said = []
    field.changed.connect(said.append)
    registry.write_text(registry.read_text().replace('"breast"', '"bone"'))
    field.choices.showPopup()
    field.choices.hidePopup()
    assert "bone" in offered(field)
    assert "breast" not in offered(field)
    assert field.path == Path("far")
    assert said == []


def test_a_damaged_registry_is_said_and_files_still_go(registry, qtbot, tmp_path):
    registry.write_text("[[model")
    field = ModelField("Trained model")
    qtbot.addWidget(field)
    assert str(registry) in field.about.text()
    field.path = tmp_path / "own.safetensors"
    assert field.path == tmp_path / "own.safetensors"
