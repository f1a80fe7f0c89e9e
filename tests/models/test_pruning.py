"""Encoders of which only the first stages are used."""

import pytest
import torch

from napari_wsss.models import Segmenter
from napari_wsss.models.encoder import Encoder
from napari_wsss.settings import EncoderSettings, SegmenterSettings


@pytest.mark.parametrize(
    "name", ["test_resnet", "tf_efficientnet_lite0", "resnet38d", "test_convnext", "resnet18"]
)
def test_stages_that_are_left_are_the_same(name):
    settings = EncoderSettings(name=name, weights="random", upscale=1.0)
    torch.manual_seed(0)
    whole = Encoder(settings).eval()
    torch.manual_seed(0)
    part = Encoder(settings, stages=3).eval()
    assert part.channels == whole.channels[:3]
    assert part.reductions == whole.reductions[:3]
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(part(x), whole(x)[:3], strict=True):
            torch.testing.assert_close(ours, theirs)
    if name != "test_convnext":
        count = sum(p.numel() for p in part.parameters())
        assert count < sum(p.numel() for p in whole.parameters())


def test_more_stages_than_there_are_means_all():
    settings = EncoderSettings(name="test_resnet", weights="random", upscale=1.0)
    assert Encoder(settings, stages=9).channels == Encoder(settings).channels


def test_a_checkpoint_that_names_no_stages_has_all(make_info):
    """Models of before the setting existed."""
    old = Segmenter(make_info("segmenter", decoder_channels=16))
    new = Segmenter(make_info("segmenter", decoder_channels=16, encoder_stages=4))
    assert len(old.encoder.channels) == 5
    assert len(new.encoder.channels) == 4
    assert new(torch.rand(1, 3, 64, 64))[0].shape == (1, 3, 64, 64)


def test_deeplab_takes_all_stages():
    assert "encoder_stages" not in SegmenterSettings(decoder="deeplabv3plus").architecture
    assert SegmenterSettings().architecture["encoder_stages"] == 4
