from __future__ import annotations

import copy
import math

import pytest
import timm
import torch

from napari_wsss.errors import ModelError
from napari_wsss.models import Encoder
from napari_wsss.models.weights import _packaged_file, read_weights
from napari_wsss.settings import EncoderSettings


def encoder(name="test_resnet", **fields):
    return Encoder(EncoderSettings(name=name, **{"weights": "random", **fields})).eval()


@pytest.mark.parametrize(
    ("name", "stride"),
    [
        ("resnet18", 8),
        ("test_convnext", 16),
        ("test_vit", 32),
        ("swin_tiny_patch4_window7_224", 32),
        ("tf_efficientnet_lite0", 8),
    ],
)
@pytest.mark.parametrize("size", [(96, 64), (50, 70)])
def test_any_timm_encoder_gives_features_channels_first(name, stride, size):
    net = encoder(name, output_stride=stride)
    with torch.no_grad():
        features = net(torch.rand(2, 3, *size))
    assert len(features) == len(net.channels) == len(net.reductions)
    for f, channels, reduction in zip(features, net.channels, net.reductions, strict=True):
        assert f.shape[:2] == (2, channels)
        for side, pixels in zip(f.shape[2:], size, strict=True):
            # Rounded up, by the stage or, of transformers, by the network's stride.
            padded = math.ceil(pixels / 32) * 32
            assert pixels // reduction <= side <= math.ceil(padded / reduction)
    if stride < 32:
        assert max(net.reductions) == stride


def test_packaged_weights_are_those_of_the_whole_network():
    """Logits of timm's full network and features of ours agree to the last bit."""
    settings = EncoderSettings(output_stride=32)
    ours = Encoder(settings).eval()
    state = list(read_weights(_packaged_file("tf_efficientnet_lite0")).values())
    full = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    assert len(state) == len(full.state_dict())
    full.load_state_dict(dict(zip(full.state_dict(), state, strict=True)))
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        deepest = ours(image)[-1]
        x = (image - 0.5) / 0.5
        expected = full.blocks(full.bn1(full.conv_stem(x)))
        torch.testing.assert_close(deepest, expected, rtol=0, atol=0)
        logits = full.classifier(full.global_pool(full.bn2(full.conv_head(deepest))))
        torch.testing.assert_close(logits, full(x), rtol=0, atol=0)
    assert logits.std() > 0.5  # trained weights tell classes apart


def test_output_stride_keeps_the_packaged_weights():
    coarse, fine = Encoder(EncoderSettings(output_stride=32)), Encoder(EncoderSettings())
    assert coarse.state_dict().keys() == fine.state_dict().keys()
    assert all(torch.equal(v, fine.state_dict()[k]) for k, v in coarse.state_dict().items())
    assert (max(coarse.reductions), max(fine.reductions)) == (32, 16)


def test_normalisation_is_that_of_the_weights():
    assert encoder("tf_efficientnet_lite0").normalisation == ((0.5,) * 3, (0.5,) * 3)
    net = encoder("resnet18")
    assert net.normalisation[0] == pytest.approx((0.485, 0.456, 0.406))
    x = torch.rand(1, 3, 32, 32)
    net.net = torch.nn.Sequential()  # what reaches the network
    net.channels = (1,) * len(x)
    reached = net(x)[0]
    torch.testing.assert_close(reached, ((x - net.mean) / net.std)[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet19", "resnet18"), ("resnet38", "resnet38d"), ("tf_eficientnet_lite0", "lite0")],
)
def test_unknown_encoder_suggests_names(name, expected):
    with pytest.raises(ModelError, match=f"no encoder {name!r}") as caught:
        encoder(name)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("test_vit", {"output_stride": 16}, "output_stride = 32"),
        ("resnet18", {"weights": "packaged"}, "No weights are packaged"),
        ("resnet38d", {"weights": "pretrained"}, "no weights of 'resnet38d'"),
    ],
)
def test_what_an_encoder_cannot_do(name, fields, message):
    with pytest.raises(ModelError, match=message):
        encoder(name, **fields)


def test_loading_a_checkpoint_never_downloads_weights(monkeypatch):
    asked = []
    create = timm.create_model

    def spy(name, **options):
        asked.append(options["pretrained"])
        return create(name, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", spy)
    settings = EncoderSettings(name="test_resnet", weights="pretrained")
    Encoder(settings, load_weights=False)
    Encoder(settings)
    assert asked == [False, True]


def test_depths_count_from_either_end():
    net = encoder()
    assert [net.depth_index(d) for d in (-5, -1, 0, 4)] == [0, 4, 0, 4]
    for depth in (5, -6):
        with pytest.raises(ModelError, match=f"depth {depth} does not exist"):
            net.depth_index(depth)


@pytest.mark.parametrize("copied", [False, True])
def test_the_graph_begins_at_the_chosen_stage(copied):
    net = encoder()
    if copied:
        net = copy.deepcopy(net)
    parameters = list(net.parameters())
    parameters[0].requires_grad_(False)
    before = [p.requires_grad for p in parameters]
    with net.gradients_from(2):
        features = net(torch.rand(1, 3, 64, 64))
        (gradient,) = torch.autograd.grad(features[-1].sum(), features[2])
    assert [f.requires_grad for f in features] == [False, False, True, True, True]
    assert features[2].is_leaf
    assert gradient.abs().sum() > 0
    assert [p.requires_grad for p in parameters] == before
    assert all(p.grad is None for p in parameters)
    assert not net(torch.rand(1, 3, 64, 64))[2].is_leaf  # the hook is gone


def test_flags_come_back_after_an_error():
    net = encoder()

    def fails():
        with net.gradients_from(1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert all(p.requires_grad for p in net.parameters())
