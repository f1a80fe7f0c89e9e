from __future__ import annotations

import pytest
import torch

from napari_wsss.errors import CheckpointError, ModelError
from napari_wsss.models import Encoder
from napari_wsss.models.resnet38 import ResNet38d
from napari_wsss.settings import EncoderSettings

BLOCKS = ["b2", "b2_1", "b2_2", "b3", "b3_1", "b3_2", "b4", "b4_1", "b4_2", "b4_3", "b4_4", "b4_5"]
BLOCKS += ["b5", "b5_1", "b5_2", "b6", "b7"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ResNet38d(8).eval()


@pytest.mark.parametrize(
    ("stride", "reductions"),
    [(8, (2, 4, 8, 8, 8)), (16, (2, 4, 8, 16, 16)), (32, (2, 4, 8, 16, 32))],
)
def test_strides(stride, reductions):
    with torch.device("meta"):
        net = ResNet38d(stride).eval()
        features = net(torch.empty(1, 3, 64, 96))
    assert net.reductions == reductions
    assert [tuple(f.shape[1:]) for f in features] == [
        (c, 64 // r, 96 // r) for c, r in zip((128, 256, 512, 1024, 4096), reductions, strict=True)
    ]


def test_dilation_keeps_the_receptive_field(network):
    dilations = {
        name: module.dilation[0]
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Conv2d) and module.dilation[0] > 1
    }
    assert dilations == {
        "b5.conv_branch2b1": 2,
        "b5_1.conv_branch2a": 2,
        "b5_1.conv_branch2b1": 2,
        "b5_2.conv_branch2a": 2,
        "b5_2.conv_branch2b1": 2,
        "b6.conv_branch2b1": 4,
        "b7.conv_branch2b1": 4,
    }


def test_layers_are_named_as_published(network):
    state = network.state_dict()
    assert {k.split(".")[0] for k in state} == {"conv1a", *BLOCKS, "bn7"}
    assert tuple(state["conv1a.weight"].shape) == (64, 3, 3, 3)
    assert tuple(state["b5.conv_branch2a.weight"].shape) == (512, 512, 3, 3)
    assert tuple(state["b6.conv_branch2b1.weight"].shape) == (1024, 512, 3, 3)
    assert tuple(state["b7.conv_branch2b2.weight"].shape) == (4096, 2048, 1, 1)
    # A shortcut is a convolution only where the shape changes.
    assert [b for b in BLOCKS if f"{b}.conv_branch1.weight" in state] == [
        "b2",
        "b3",
        "b4",
        "b5",
        "b6",
        "b7",
    ]
    assert {k.split(".")[1] for k in state if k.startswith("b7.")} == {
        "bn_branch2a",
        "conv_branch2a",
        "bn_branch2b1",
        "conv_branch2b1",
        "bn_branch2b2",
        "conv_branch2b2",
        "conv_branch1",
    }


@pytest.fixture
def tiny(monkeypatch):
    """ResNet-38d without the layers that make its file 400 MB."""
    monkeypatch.setattr("napari_wsss.models.resnet38._Bottleneck", lambda *_: torch.nn.Identity())
    monkeypatch.setattr(ResNet38d, "channels", (128, 256, 512, 1024, 1024))
    make = torch.nn.BatchNorm2d
    monkeypatch.setattr(torch.nn, "BatchNorm2d", lambda n: make(1024 if n == 4096 else n))


def encoder(weights):
    return Encoder(EncoderSettings(name="resnet38d", weights=str(weights), output_stride=8))


@pytest.mark.usefixtures("tiny")
def test_a_published_file_with_its_class_layer_loads(tmp_path):
    torch.manual_seed(3)
    source = ResNet38d(8)
    state = {**source.state_dict(), "fc8.weight": torch.ones(20, 4096, 1, 1)}
    torch.save({f"module.{k}": v for k, v in state.items()}, tmp_path / "res38d.pth")
    loaded = encoder(tmp_path / "res38d.pth").net.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in source.state_dict().items())


@pytest.mark.usefixtures("tiny")
def test_first_differing_layers_are_named(tmp_path):
    state = ResNet38d(8).state_dict()
    state["b2.conv_branch2a.weight"] = torch.ones(2, 2)
    del state["b3_1.conv_branch2a.weight"]
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"b3_1\.conv_branch2a\.weight is missing") as caught:
        encoder(tmp_path / "other.pth")
    assert "b2.conv_branch2a.weight: (2, 2) in the file, (128, 64, 3, 3)" in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"no weights file .*none\.pth"):
        Encoder(EncoderSettings(name="test_resnet", weights=str(tmp_path / "none.pth")))
