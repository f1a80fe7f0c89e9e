from __future__ import annotations

import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_wsss.errors import CheckpointError, ModelError
from napari_wsss.models import Classifier, Encoder, save_model
from napari_wsss.models.weights import read_weights
from napari_wsss.settings import EncoderSettings


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt", ""])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_objects_are_refused_and_not_executed(tmp_path, suffix, plain):
    path = tmp_path / f"weights{suffix}"
    if plain:
        path.write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    else:
        torch.save({"a": torch.ones(2), "b": Bomb(tmp_path / "executed")}, path)
    with pytest.raises(CheckpointError, match="refused"):
        read_weights(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files_are_refused(tmp_path):
    """Whatever a file holds, only our own error comes out."""
    rng = np.random.default_rng(0)
    torch.save({"a": torch.ones(50), "b": torch.zeros(3, 4)}, tmp_path / "good.pth")
    torch.save({"a": torch.ones(9)}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    save_file({"a": torch.ones(50)}, tmp_path / "good.safetensors")
    samples = [b"", b"<html>not found</html>", b"PK\x03\x04", pickle.dumps({"a": 1})]
    samples += [rng.bytes(200) for _ in range(20)]
    for source in ("good.pth", "legacy.pth", "good.safetensors"):
        data = (tmp_path / source).read_bytes()
        samples += [data[: int(len(data) * share)] for share in (0.1, 0.5, 0.99)]
        for _ in range(40):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 3):
                damaged[position] = rng.integers(0, 256)
            samples.append(bytes(damaged))
    refused = 0
    for i, data in enumerate(samples):
        path = tmp_path / f"sample{('.pth', '.safetensors')[i % 2]}"
        path.write_bytes(data)
        try:
            read_weights(path)
        except CheckpointError:
            refused += 1
    assert refused > len(samples) / 2


def test_a_zip_that_is_no_weights_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as file:
        file.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="refused"):
        read_weights(tmp_path / "x.pth")


def test_something_else_than_tensors(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="dictionary of tensors"):
        read_weights(tmp_path / "list.pth")


@pytest.mark.parametrize("wrapped", ["state_dict", "model", None])
def test_local_files_load_by_name(tmp_path, wrapped):
    torch.manual_seed(5)
    source = Encoder(EncoderSettings(name="test_resnet", weights="random"))
    state = dict(source.net.state_dict()) | {"fc.weight": torch.ones(10, 96)}
    torch.save({wrapped: state} if wrapped else state, tmp_path / "own.pth")
    loaded = Encoder(EncoderSettings(name="test_resnet", weights=str(tmp_path / "own.pth")))
    for key, value in source.net.state_dict().items():
        assert torch.equal(value, loaded.net.state_dict()[key])


def test_own_checkpoints_serve_as_encoder_weights(tmp_path, make_info):
    model = Classifier(make_info())
    save_model(model, tmp_path / "model.safetensors")
    settings = EncoderSettings(name="test_resnet", weights=str(tmp_path / "model.safetensors"))
    loaded = Encoder(settings)
    for key, value in model.encoder.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_weights_of_another_network(tmp_path):
    source = Encoder(EncoderSettings(name="test_convnext", weights="random"))
    save_file(source.net.state_dict(), tmp_path / "other.safetensors")
    settings = EncoderSettings(name="test_resnet", weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ModelError, match=r"do not fit the encoder(.|\n)*is missing"):
        Encoder(settings)
