from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.cams import depth_maps
from napari_wsss.cams.masks import MaskNetwork, masks_from_maps
from napari_wsss.errors import CancelledError, WsssError
from napari_wsss.jobs import CancelToken
from napari_wsss.settings import PseudoMaskSettings

LABELS = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 1, 1], [1, 1, 0]], bool)
NAMES = list("vwxyz")
CPU = torch.device("cpu")


def images_of(*sides: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (-(-s // 8), -(-s // 8), 3), np.uint8) for s in sides]
    return [c.repeat(8, 0).repeat(8, 1)[:s, :s] for c, s in zip(coarse, sides, strict=True)]


@pytest.mark.parametrize("method", ["gradcam", "heads"])
@pytest.mark.parametrize("flips", [False, True])
def test_masks_are_those_of_the_plain_network(make_classifier, method, flips):
    """Folded batch norms, matrix products and one pass less change rounding only."""
    model = make_classifier(deep_supervision=True)
    images = images_of(48, 64, 48, 64, 48)
    settings = PseudoMaskSettings(method=method, flips=flips, precision="fp32", batch_size=3)
    found = MaskNetwork(model, settings, CPU, CancelToken()).masks(NAMES, images, LABELS)
    for i, image in enumerate(images):
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        maps = depth_maps(
            model, x, torch.from_numpy(LABELS[i : i + 1]), method=method, flips=flips
        )
        expected = masks_from_maps(maps)[0].numpy()
        assert found[i].shape == expected.shape == (3, *image.shape[:2])
        assert (found[i] == expected).mean() > 0.999


def test_lack_of_memory_gives_the_same_masks(make_classifier, monkeypatch):
    model = make_classifier()
    images = images_of(48, 48, 48, 64, 48)
    settings = PseudoMaskSettings(precision="fp32")
    expected = MaskNetwork(model, settings, CPU, CancelToken()).masks(NAMES, images, LABELS)
    tight = MaskNetwork(model, settings, CPU, CancelToken())
    sizes = []
    features = tight.model.features

    def small_only(x):
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return features(x)

    monkeypatch.setattr(tight.model, "features", small_only)
    found = tight.masks(NAMES, images, LABELS)
    assert max(sizes) == 4
    for one, two in zip(found, expected, strict=True):
        assert (one == two).mean() > 0.999
    assert sizes.count(1) == 5
    # What was learnt about the memory is kept.
    sizes.clear()
    tight.masks(NAMES, images, LABELS)
    assert sizes == [1] * 5


def test_no_memory_for_one_patch_is_told(make_classifier, monkeypatch):
    network = MaskNetwork(make_classifier(), PseudoMaskSettings(), CPU, CancelToken())

    def never(x):
        raise MemoryError

    monkeypatch.setattr(network.model, "features", never)
    with pytest.raises(WsssError, match="memory of cpu does not suffice for patch 'v'"):
        network.masks(NAMES[:2], images_of(48, 48), LABELS[:2])


def test_cancelling_ends_a_pass_between_its_layers(make_classifier):
    model = make_classifier()
    for late in (5, 40, 60):  # in the forward pass, and in the backward pass
        token = CancelToken()
        calls = []

        def check(token=token, calls=calls, late=late):
            calls.append(1)
            if len(calls) == late:
                token.cancel()
            CancelToken.raise_if_cancelled(token)

        token.raise_if_cancelled = check
        network = MaskNetwork(model, PseudoMaskSettings(), CPU, token)
        with pytest.raises(CancelledError):
            network.masks(NAMES, images_of(*[48] * 5), LABELS)
        assert len(calls) == late
