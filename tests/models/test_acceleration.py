"""The copy that runs on slides gives what the network gives."""

from __future__ import annotations

import pytest
import torch

from napari_wsss.models import Classifier, Segmenter
from napari_wsss.models import acceleration as module
from napari_wsss.models.acceleration import accelerated
from napari_wsss.models.base import Window
from napari_wsss.models.device import autocast, uses_bf16
from napari_wsss.models.quick_conv import QuickConv

CPU = torch.device("cpu")


def made(make_info, kind="segmenter", decoder="unet", **encoder):
    torch.manual_seed(0)
    info = make_info(kind, encoder=encoder, decoder_channels=16, decoder=decoder)
    return {"segmenter": Segmenter, "classifier": Classifier}[kind](info).eval()


def pixels(height, width, n=1):
    generator = torch.Generator().manual_seed(1)
    size = (n, 3, height, width)
    return torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)


def taken(model, images):
    """Return images as a model takes them."""
    return images / 255 if model.encoder.normalises else images


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("segmenter", {"name": "test_resnet"}),
        ("segmenter", {"name": "tf_efficientnet_lite0"}),
        ("segmenter", {"name": "tf_efficientnet_lite0", "upscale": 1.5}),
        ("segmenter", {"name": "tf_efficientnet_lite0", "decoder": "deeplabv3plus"}),
        ("classifier", {"name": "tf_efficientnet_lite0"}),
        ("classifier", {"name": "resnet38d"}),
    ],
)
@pytest.mark.parametrize("size", [(64, 96), (63, 81)])
def test_outputs_are_those_of_the_original(make_info, kind, options, size):
    model = made(make_info, kind, **options)
    quick = accelerated(model, CPU, "fp32")
    images = pixels(*size, n=2)
    with torch.inference_mode():
        for ours, theirs in zip(
            quick.dense(taken(quick, images)), model.dense(images / 255), strict=True
        ):
            scale = theirs.abs().max()
            torch.testing.assert_close(ours / scale, theirs / scale, atol=2e-5, rtol=0)


def test_bytes_go_straight_into_the_first_convolution(make_info):
    quick = accelerated(made(make_info, name="tf_efficientnet_lite0"), CPU, "fp32")
    assert not quick.encoder.normalises
    first = next(m for m in quick.encoder.modules() if isinstance(m, QuickConv))
    assert first.border is not None
    # Beyond the image lies what was black before normalising: the mean.
    torch.testing.assert_close(first.border, torch.full((3,), 127.5))


def test_a_model_is_looked_at_once_as_long_as_it_stays_as_it_is(make_info, monkeypatch):
    looked = []
    fused = module.fused
    monkeypatch.setattr(module, "fused", lambda m: looked.append(m) or fused(m))
    model, images = made(make_info, name="test_resnet"), pixels(64, 64)
    one = accelerated(model, CPU, "fp32")
    two = accelerated(model, CPU, "fp32")
    assert len(looked) == 1
    assert not set(one.modules()) & set(two.modules())  # hooks of one must not reach the other
    with torch.inference_mode():
        before = two.dense(taken(two, images)).logits
        torch.testing.assert_close(one.dense(taken(one, images)).logits, before, atol=0, rtol=0)
    with torch.no_grad():
        model.encoder.net.conv1[0].weight.mul_(2)
    changed = accelerated(model, CPU, "fp32")
    assert len(looked) == 2
    with torch.inference_mode():
        after = changed.dense(taken(changed, images)).logits
        expected = model.dense(images / 255).logits
    assert (after - before).abs().max() > 1e-3 * before.abs().max()
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-3)
    model.encoder.normalise_by((0.4, 0.5, 0.6), (0.2, 0.3, 0.2))
    otherwise = accelerated(model, CPU, "fp32")
    with torch.inference_mode():
        torch.testing.assert_close(
            otherwise.dense(taken(otherwise, images)).logits,
            model.dense(images / 255).logits,
            atol=1e-4,
            rtol=1e-3,
        )


@pytest.mark.skipif(
    not uses_bf16(CPU, "auto"), reason="oneDNN has no such convolution for this processor"
)
def test_in_bf16_it_computes_what_autocast_computes(make_info):
    model = made(make_info, name="tf_efficientnet_lite0")
    quick = accelerated(model, CPU, "bf16")
    convolutions = [m for m in quick.modules() if isinstance(m, QuickConv)]
    assert convolutions
    assert all(m.weight.dtype == torch.bfloat16 for m in convolutions)
    images = pixels(64, 96)
    with torch.inference_mode():
        expected = model.dense(images / 255).logits
        with autocast(CPU, "bf16"):
            found = quick.dense(taken(quick, images)).logits
            usual = model.dense(images / 255).logits
    error = (found - expected).abs().max()
    assert error < 2 * (usual - expected).abs().max() + 1e-3
    assert error < 0.1 * expected.abs().max()


@pytest.mark.parametrize("upscale", [1.0, 1.5, 3.0])
@pytest.mark.parametrize(
    "keep",
    [
        Window(0, 0, 64, 64),
        Window(96, 64, 64, 96),
        Window(130, 33, 21, 50),
        Window(192, 160, 64, 96),
    ],
)
def test_only_what_is_kept_is_decoded_and_it_is_the_same(make_info, upscale, keep):
    model = made(make_info, name="test_resnet", upscale=upscale)
    images = pixels(256, 256) / 255
    with torch.inference_mode():
        whole, part = model.reduced(images), model.reduced(images, keep)
    assert part.size == whole.size == tuple(whole.logits.shape[-2:])
    assert part.logits.numel() < whole.logits.numel()
    torch.testing.assert_close(part.presence, whole.presence)
    scale = whole.size[0] / 256
    # What is kept, and the pixel around it that enlarging looks at.
    top, left = (max(0, int(n * scale) - 1) for n in keep[:2])
    bottom = min(whole.size[0], -int(-(keep.y + keep.height) * scale) + 1)
    right = min(whole.size[1], -int(-(keep.x + keep.width) * scale) + 1)
    y, x = part.origin
    torch.testing.assert_close(
        part.logits[..., top - y : bottom - y, left - x : right - x],
        whole.logits[..., top:bottom, left:right],
    )
