from __future__ import annotations

import json
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save, save_file

from napari_wsss.errors import CheckpointError, ModelError, OutputError
from napari_wsss.models import (
    Classifier,
    Segmenter,
    load_classifier,
    load_model,
    load_segmenter,
    read_info,
    save_model,
)
from napari_wsss.models.checkpoint import _digest


@pytest.fixture
def path(tmp_path, classifier):
    return save_model(classifier, tmp_path / "model.safetensors")


def forge(path, tensors, info):
    """Write a file whose checksum is right, as another program might."""
    header = info if isinstance(info, str) else json.dumps(info)
    path.write_bytes(save(tensors, {"wsss": header, "sha256": _digest(header, tensors)}))
    return path


def parts(path):
    with safe_open(str(path), "pt") as file:
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["wsss"])


@pytest.mark.parametrize("kind", ["classifier", "segmenter", "deeplabv3plus", "heads"])
def test_round_trip_gives_identical_outputs(tmp_path, make_info, kind):
    encoder = {"upscale": 1.5}
    model = {
        "classifier": lambda: Classifier(make_info(encoder=encoder, depths=[-1])),
        "heads": lambda: Classifier(make_info(deep_supervision=True)),
        "segmenter": lambda: Segmenter(make_info("segmenter", encoder=encoder)),
        "deeplabv3plus": lambda: Segmenter(
            make_info("segmenter", decoder="deeplabv3plus", decoder_channels=16)
        ),
    }[kind]().eval()
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert type(loaded) is type(model)
    assert loaded.info == model.info == read_info(tmp_path / "m.safetensors")
    assert not loaded.training
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for expected, found in zip(model.dense(x), loaded.dense(x), strict=True):
            assert torch.equal(expected, found)


def test_equal_models_are_equal_files(tmp_path, classifier):
    """Also by chance: two keys of a hash map come in either order."""
    files = [save_model(classifier, tmp_path / f"{i}.safetensors") for i in range(8)]
    assert len({file.read_bytes() for file in files}) == 1


def test_the_header_is_self_sufficient(path):
    _, header = parts(path)
    assert (header["mean"], header["std"]) == ([0.5] * 3, [0.5] * 3)  # of test_resnet
    assert header["encoder"]["name"] == "test_resnet"
    assert [c["name"] for c in header["classes"]["class"]] == ["class 0", "class 1", "class 2"]
    assert all(c["color"].startswith("#") for c in header["classes"]["class"])
    assert {"mpp", "seed", "package_version", "training", "patch_size_px"} <= set(header)


def test_normalisation_comes_from_the_file(path, tmp_path):
    tensors, header = parts(path)
    forged = forge(tmp_path / "n.safetensors", tensors, header | {"mean": [0.1, 0.2, 0.3]})
    assert load_model(forged).encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("k", [2, 254])
def test_any_number_of_classes(tmp_path, make_info, k):
    model = Classifier(make_info(classes=k))
    save_model(model, tmp_path / "m.safetensors")
    loaded = load_classifier(tmp_path / "m.safetensors")
    assert loaded.classes == model.classes
    assert loaded(torch.rand(1, 3, 32, 32)).logits[-1].shape == (1, k)


def test_existing_files_are_kept(path, segmenter):
    before = path.read_bytes()
    with pytest.raises(OutputError, match="exists"):
        save_model(segmenter, path)
    assert path.read_bytes() == before
    save_model(segmenter, path, overwrite=True)
    assert load_segmenter(path).info.kind == "segmenter"
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing temporary is left


def test_a_full_disk_keeps_the_old_file(path, segmenter, monkeypatch):
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_wsss.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"full.* MB are needed"):
        save_model(segmenter, path, overwrite=True)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("share", [0, 0.0001, 0.5, 0.99, 0.999999])
def test_cut_files_are_refused(path, share):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError, match=str(path)):
        load_model(path)


def test_every_flipped_bit_is_noticed(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    rng = np.random.default_rng(0)
    places = [
        *range(8),
        *rng.integers(8, 8 + length, 60),
        *rng.integers(8 + length, len(data), 40),
    ]
    for place in map(int, places):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(path)):
            load_model(path)
    path.write_bytes(data)
    load_model(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="no model file"):
        load_model(path)
    with pytest.raises(CheckpointError, match="no model file"):
        load_model(tmp_path)
    for content in (b"", b"hello", struct.pack("<Q", 2**62) + b"{}", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="is not a model of napari-wsss"):
            read_info(path)
    save_file({"a": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match=r"no header(.|\n)*encoder\.weights"):
        load_model(path)


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    for write in (
        lambda p: p.write_bytes(pickle.dumps(Bomb())),
        lambda p: torch.save({"a": Bomb()}, p),
    ):
        write(tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError, match=r"Pickled files .* are refused"):
            load_model(tmp_path / "model.safetensors")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": {"name": "resnet18", "weights": "random", "upscale": 1.0}},
        {"architecture": {"depths": [-2, -1], "deep_supervision": True}},
        {"architecture": {"decoder_channels": 16}, "kind": "segmenter"},
    ],
)
def test_another_architecture_names_the_first_differing_tensors(path, tmp_path, change):
    tensors, header = parts(path)
    forged = forge(tmp_path / "f.safetensors", tensors, header | change)
    with pytest.raises((ModelError, CheckpointError)) as caught:
        load_model(forged)
    assert str(forged) in str(caught.value)
    if "encoder" in change:
        assert "encoder.net.conv1.weight is missing" in str(caught.value)


def test_another_number_of_classes_names_the_head(path, tmp_path):
    tensors, header = parts(path)
    header["classes"]["class"].append({"name": "more", "color": "#000000"})
    forged = forge(tmp_path / "f.safetensors", tensors, header)
    with pytest.raises(ModelError, match=r"heads\.0\.weight: \(3, 96, 1, 1\) in the file, \(4,"):
        load_model(forged)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "diffuser"},
        {"format_version": 2},
        {"classes": {"class": [{"name": "only", "color": "#000000"}]}},
        {"classes": {}},
        {"architecture": {"depths": ["deep"]}},
        {"architecture": {"depths": 3}},
        {"encoder": {"name": "test_resnet", "surprise": 1}},
        {"patch_size_px": 0},
    ],
)
def test_headers_that_make_no_sense(path, tmp_path, change):
    tensors, header = parts(path)
    forged = forge(tmp_path / "f.safetensors", tensors, header | change)
    with pytest.raises(CheckpointError, match="not understood"):
        load_model(forged)


@pytest.mark.parametrize("header", ["", "{", "[" * 100_000, '"text"', "null"])
def test_headers_that_are_no_json_object(path, tmp_path, header):
    forged = forge(tmp_path / "f.safetensors", parts(path)[0], header)
    with pytest.raises(CheckpointError, match="not understood"):
        load_model(forged)


def test_an_unknown_encoder_in_the_header(path, tmp_path):
    tensors, header = parts(path)
    header["encoder"]["name"] = "resnet19"
    with pytest.raises(ModelError, match="resnet19"):
        load_model(forge(tmp_path / "f.safetensors", tensors, header))


def test_tensors_of_another_precision_load(path, tmp_path):
    tensors, header = parts(path)
    half = {k: v.bfloat16() if v.is_floating_point() else v for k, v in tensors.items()}
    loaded = load_model(forge(tmp_path / "f.safetensors", half, header))
    torch.testing.assert_close(loaded.heads[0].weight, half["heads.0.weight"].float())


def test_the_wrong_kind_is_named(path, tmp_path, segmenter):
    with pytest.raises(ModelError, match="is a classifier; a segmenter is needed"):
        load_segmenter(path)
    other = save_model(segmenter, tmp_path / "s.safetensors")
    with pytest.raises(ModelError, match="is a segmenter; a classifier is needed"):
        load_classifier(other)
