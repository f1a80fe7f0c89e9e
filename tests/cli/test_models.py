"""``models``: a registry of the user's own, and names in place of files."""

import json

import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.models import ModelInfo, Segmenter, load_model, read_info, save_model
from napari_wsss.settings import EncoderSettings


@pytest.fixture(autouse=True)
def own_registry(monkeypatch, tmp_path):
    monkeypatch.setenv("NAPARI_WSSS_MODELS", str(tmp_path / "models.toml"))


@pytest.fixture
def model(tmp_path):
    """The file of a model with random weights."""
    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture={"decoder": "unet", "decoder_channels": 32},
        classes=ClassTable.from_names(["tumour", "stroma"]).to_dict(),
        mpp=0.5,
        patch_size_px=64,
        supervision="pseudo masks",
    )
    return save_model(Segmenter(info), tmp_path / "model.safetensors")


def names(cli, tmp_path):
    assert cli("models", "--json", tmp_path / "list.json").exit_code == 0
    models = json.loads((tmp_path / "list.json").read_text("utf-8"))["models"]
    return [model["name"] for model in models if not model["shipped"]]


def test_a_model_is_added_listed_described_and_removed(cli, model, tmp_path):
    added = cli("models", "add", "mine", model, "--for", "two stripes", "--terms", "free")
    assert added.exit_code == 0, added.output
    assert "mine stands for" in added.stdout
    assert names(cli, tmp_path) == ["mine"]
    shown = cli("models")
    assert "two stripes" in shown.stdout
    assert "free" in shown.stdout
    card = cli("models", "card", "mine")
    assert "| for | two stripes |" in card.stdout
    assert cli("models", "remove", "mine").exit_code == 0
    assert names(cli, tmp_path) == []
    assert model.is_file()


def test_errors_say_what_to_do(cli, model):
    assert cli("models", "add", "mine", model).exit_code == 0
    again = cli("models", "add", "mine", model)
    assert again.exit_code == 1
    assert "models remove" in again.stderr
    wrong = cli("models", "add", "other", model, "--sha256", "0" * 64)
    assert wrong.exit_code == 1
    assert "another checksum" in wrong.stderr
    assert "No model named 'none'" in cli("models", "card", "none").stderr


def test_a_name_segments_a_slide(cli, model, slide, tmp_path):
    assert cli("models", "add", "mine", model).exit_code == 0
    options = ("--out", tmp_path / "out", "--mpp", 0.5, "--set", "block_px=64", "--quiet")
    done = cli("segment", slide, "--model", "mine", *options)
    assert done.exit_code == 0, done.output
    missing = cli("segment", slide, "--model", "mien", *options)
    assert missing.exit_code == 1
    assert "registered: " in missing.stderr
    assert "mine" in missing.stderr


def test_packing(cli, model, tmp_path):
    small = tmp_path / "small.safetensors"
    done = cli("models", "pack", model, "--out", small)
    assert done.exit_code == 0, done.output
    assert small.stat().st_size < 0.6 * model.stat().st_size
    assert load_model(small).info == read_info(model)
    assert cli("models", "pack", model, "--out", small).exit_code == 1
