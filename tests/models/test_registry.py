"""Models by name: adding, finding, fetching, removing, and what goes wrong with each."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from napari_wsss.errors import CheckpointError, ModelError, SettingsError
from napari_wsss.models import (
    add_model,
    fetching,
    load_model,
    load_segmenter,
    model_card,
    read_info,
    registered_models,
    remove_model,
    save_model,
)
from napari_wsss.models.registry import shipped_registry, user_registry


@pytest.fixture(autouse=True)
def own_registry(monkeypatch, tmp_path):
    """A registry and a cache of this test, and no shipped models."""
    monkeypatch.setenv("NAPARI_WSSS_MODELS", str(tmp_path / "config" / "models.toml"))
    monkeypatch.setattr(fetching, "models_cache", lambda: tmp_path / "cache")
    empty = tmp_path / "shipped" / "registry.toml"
    monkeypatch.setattr("napari_wsss.models.registry.shipped_registry", lambda: empty)


@pytest.fixture
def path(tmp_path, segmenter):
    return save_model(segmenter, tmp_path / "model.safetensors")


@pytest.fixture
def server(tmp_path):
    """Serve a folder on this computer: (address, folder)."""
    folder = tmp_path / "www"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", folder
    running.shutdown()
    running.server_close()
    thread.join()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_name_stands_for_the_file(path, segmenter):
    added = add_model("own", path, purpose="  Breast, 20x ", terms="CC BY 4.0")
    assert added.entry.sha256 == sha256(path)
    assert added.entry.classes == ("class 0", "class 1", "class 2")
    assert added.entry.purpose == "Breast, 20x"
    assert [m.entry.name for m in registered_models()] == ["own"]
    assert read_info("own") == segmenter.info
    loaded = load_segmenter("own")
    for key, value in segmenter.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_a_file_comes_before_a_name(path, tmp_path, monkeypatch, make_info):
    from napari_wsss.models import Classifier

    add_model("own", path)
    save_model(Classifier(make_info()), tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert load_model("own").info.kind == "classifier"


def test_unknown_names_say_which_are_known(path):
    add_model("own", path)
    with pytest.raises(CheckpointError, match=r"no model of that name.*registered: own"):
        load_model("owm")
    with pytest.raises(CheckpointError, match=r"There is no model file .*owm\.safetensors\.$"):
        load_model("owm.safetensors")


def test_a_file_that_moved_says_so(path):
    add_model("own", path)
    path.rename(path.with_name("elsewhere.safetensors"))
    with pytest.raises(CheckpointError, match=r"registered as .*moved or deleted.*models remove"):
        load_model("own")


def test_a_file_that_changed_says_so(path, segmenter):
    add_model("own", path)
    torch.nn.init.ones_(segmenter.gate.weight)
    save_model(segmenter, path, overwrite=True)
    with pytest.raises(CheckpointError, match=r"not the file that was registered.*checksum"):
        load_model("own")


def test_removing_leaves_the_file(path):
    add_model("one", path)
    add_model("two", path)
    remove_model("one")
    assert [m.entry.name for m in registered_models()] == ["two"]
    assert path.is_file()
    with pytest.raises(SettingsError, match=r"No model named 'one'.*registered: two"):
        remove_model("one")


@pytest.mark.parametrize("name", ["", "a b", "a/b", "model.safetensors", "-x", "ä"])
def test_bad_names_are_refused(path, name):
    with pytest.raises(SettingsError, match="no name for a model"):
        add_model(name, path)


def test_what_is_no_model_is_not_registered(path, tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("nothing")
    for wrong in (text, tmp_path / "gone.safetensors"):
        with pytest.raises(CheckpointError):
            add_model("own", wrong)
    with pytest.raises(CheckpointError, match=sha256(path)):
        add_model("own", path, sha256="0" * 64)
    with pytest.raises(SettingsError, match="no SHA-256"):
        add_model("own", path, sha256="12")
    with pytest.raises(SettingsError, match="no model card"):
        add_model("own", path, card=tmp_path / "card.md")
    assert registered_models() == ()
    add_model("own", path, sha256=f"sha256:{sha256(path).upper()}")
    with pytest.raises(SettingsError, match="registered already"):
        add_model("own", path)


def test_shipped_models_come_first_and_stay(path, monkeypatch, tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "lung.safetensors").write_bytes(path.read_bytes())
    (folder / "lung.md").write_text("# Lung\n")
    (folder / "registry.toml").write_text(
        f'[[model]]\nname = "lung"\nfile = "lung.safetensors"\ncard = "lung.md"\n'
        f'sha256 = "{sha256(path)}"\n'
    )
    add_model("own", path)
    assert [(m.entry.name, m.shipped) for m in registered_models()] == [
        ("lung", True),
        ("own", False),
    ]
    assert load_model("lung").info.kind == "segmenter"
    assert model_card("lung") == "# Lung\n"
    with pytest.raises(SettingsError, match="comes with the package"):
        remove_model("lung")
    with pytest.raises(SettingsError, match="choose another name"):
        add_model("lung", path)
    # A user's model whose name a later version ships keeps its meaning.
    written = user_registry().read_text().replace('"own"', '"lung"')
    user_registry().write_text(written)
    assert [(m.entry.name, m.shipped) for m in registered_models()] == [("lung", False)]


def test_cards(path, tmp_path):
    card = tmp_path / "card.md"
    card.write_text("# Mine\n")
    add_model("with", path, card=card)
    add_model("without", path, terms="ask first")
    assert model_card("with") == "# Mine\n"
    text = model_card("without")
    assert "class 0, class 1, class 2" in text
    assert "ask first" in text
    card.unlink()  # what the file says is better than nothing
    assert "without a model card" in model_card("with")
    path.unlink()
    assert "not on this computer" in model_card("without")
    with pytest.raises(SettingsError, match="registered: with, without"):
        model_card("other")


def test_an_address_is_downloaded_once(path, server):
    address, folder = server
    url = f"{address}/model.safetensors"
    (folder / "model.safetensors").write_bytes(path.read_bytes())
    added = add_model("far", url)
    assert added.entry.sha256 == sha256(path)
    assert added.file is None
    assert read_info("far") == read_info(path)
    (folder / "model.safetensors").unlink()
    assert load_model("far").info == read_info(path)  # without the server
    assert "learned from" in model_card("far")  # of its file
    remove_model("far")
    assert not list(fetching.models_cache().glob("far*"))


def test_another_file_at_the_address_is_refused(path, server):
    address, folder = server
    (folder / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="checksum differs"):
        add_model("far", f"{address}/model.safetensors", sha256=sha256(path))
    assert registered_models() == ()


def test_without_a_connection_it_says_what_to_do(path, server):
    address, _ = server
    with pytest.raises(CheckpointError, match=r"answered 404.*carry the file over"):
        add_model("far", f"{address}/model.safetensors", sha256=sha256(path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(CheckpointError, match=r"no connection.*Without internet"):
        add_model("far", f"http://127.0.0.1:{port}/m.safetensors", sha256=sha256(path))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[model]", "cannot be read"),
        ("model = 3", "tables only"),
        ("[other]", "tables only"),
        ('[[model]]\nname = "a"\nsha256 = "x"\nfile = "f"', "model 1, sha256"),
        (f'[[model]]\nname = "a"\nsha256 = "{"0" * 64}"', "one of the two"),
        (2 * f'[[model]]\nname = "a"\nfile = "f"\nsha256 = "{"0" * 64}"\n', "a is there twice"),
    ],
)
def test_a_damaged_registry_is_named(text, says):
    user_registry().parent.mkdir()
    user_registry().write_text(text)
    with pytest.raises(SettingsError, match=says) as caught:
        load_model("a")
    assert str(user_registry()) in str(caught.value)


def test_the_registry_is_read_without_torch():
    code = (
        "import sys; from napari_wsss.models import registered_models, find_model, model_card; "
        "registered_models(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_files_are_used_whatever_the_registry_is(path):
    user_registry().parent.mkdir()
    user_registry().write_text("[[model]")
    assert load_model(path).info.kind == "segmenter"


def test_shipped_models_are_what_their_registry_says():
    listed = tomllib.loads(shipped_registry().read_text("utf-8")).get("model", [])
    folder = shipped_registry().parent
    total = 0
    for row in listed:
        file = folder / row["file"]
        info = read_info(file)
        assert sha256(file) == row["sha256"]
        assert tuple(row["classes"]) == info.class_table.names
        assert row["mpp"] == info.mpp
        assert row["terms"]
        assert (folder / row["card"]).is_file()
        assert info.supervision == "pseudo masks"  # weak labels only
        total += file.stat().st_size
    assert total <= 12e6
    assert {p.name for p in folder.iterdir()} - {"registry.toml"} == {
        name for row in listed for name in (row["file"], row["card"])
    }


def test_half_precision_halves_the_file(path, segmenter, tmp_path):
    small = save_model(segmenter, tmp_path / "small.safetensors", half=True)
    assert small.stat().st_size < 0.6 * path.stat().st_size
    loaded = load_model(small)
    assert {v.dtype for v in loaded.state_dict().values()} <= {torch.float32, torch.int64}
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full, half = segmenter(x)[0], loaded(x)[0]
    assert (full - half).abs().max() < 2e-2 * full.abs().max()
    # Saved once more, nothing changes.
    again = save_model(loaded, tmp_path / "again.safetensors", half=True)
    assert again.read_bytes() == small.read_bytes()


def test_weights_too_large_for_half_precision_are_refused(segmenter, tmp_path):
    with torch.no_grad():
        segmenter.gate.weight.fill_(1e6)
    with pytest.raises(ModelError, match="too large for half precision"):
        save_model(segmenter, tmp_path / "m.safetensors", half=True)
    assert not (tmp_path / "m.safetensors").exists()
