from __future__ import annotations

import pytest
import torch

from napari_wsss.errors import ModelError
from napari_wsss.models import Classifier, Segmenter


@pytest.mark.parametrize("decoder", ["unet", "deeplabv3plus"])
@pytest.mark.parametrize("size", [(64, 96), (50, 77)])
@pytest.mark.parametrize("upscale", [1.0, 1.5, 2.0])
def test_logits_have_the_size_of_the_image(make_info, decoder, size, upscale):
    info = make_info(
        "segmenter", decoder=decoder, decoder_channels=16, encoder={"upscale": upscale}
    )
    model = Segmenter(info).eval()
    with torch.no_grad():
        logits, presence = model(torch.rand(2, 3, *size))
        dense = model.dense(torch.rand(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert presence.shape == (2, 3)
    assert dense.presence.shape[-1] == -(-round(size[1] * upscale) // 16)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_unet_takes_any_encoder(make_info, name):
    encoder = {"name": name, "output_stride": 32}
    model = Segmenter(make_info("segmenter", encoder=encoder, decoder_channels=16)).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64))[0].shape == (1, 3, 64, 64)


def test_gate_logits_are_the_mean_of_the_presence_map(segmenter):
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(segmenter(x)[1], segmenter.dense(x).presence.mean((2, 3)))


@pytest.mark.parametrize(
    ("encoder", "architecture", "message"),
    [
        ({}, {"decoder": "fpn"}, "no decoder 'fpn'"),
        ({}, {"encoder_stages": 2}, "at least two encoder stages"),
        ({"output_stride": 32}, {"decoder": "deeplabv3plus"}, "output_stride = 16"),
        (
            {"name": "test_convnext"},
            {"decoder": "deeplabv3plus"},
            "DeepLabV3\\+ needs an encoder of five stages",
        ),
    ],
)
def test_decoders_that_do_not_fit(make_info, encoder, architecture, message):
    with pytest.raises(ModelError, match=message):
        Segmenter(make_info("segmenter", encoder=encoder, **architecture))


@pytest.mark.parametrize(
    ("upscale", "stride", "expected"),
    [(1.0, 16, 16), (1.0, 32, 32), (1.5, 16, 32), (2.0, 16, 8), (4.0, 16, 4), (1.15, 8, 160)],
)
def test_alignment_is_a_whole_number_of_strides(make_info, upscale, stride, expected):
    model = Classifier(make_info(encoder={"upscale": upscale, "output_stride": stride})).eval()
    assert model.alignment_px == expected
    scaled = model.scaled(torch.rand(1, 3, expected, 3 * expected))
    assert scaled.shape[-1] == round(3 * expected * upscale)
    assert scaled.shape[-2] % stride == 0


def test_enlarging_is_bilinear_and_keeps_a_constant(make_info):
    model = Classifier(make_info(encoder={"upscale": 2.0}))
    x = torch.zeros(1, 3, 1, 2)
    x[..., 1] = 1
    found = model.scaled(x)[0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([0.0, 0.25, 0.75, 1.0]))
