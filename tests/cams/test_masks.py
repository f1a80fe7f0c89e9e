from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.cams import depth_maps
from napari_wsss.cams.masks import MaskNetwork, agreement, masks_from_maps
from napari_wsss.cams.refine import guided_filter
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
        masks, certainty = found[i]
        assert masks.shape == expected.shape == (3, *image.shape[:2])
        assert (masks == expected).mean() > 0.999
        np.testing.assert_array_equal(certainty, agreement(masks))


@pytest.fixture
def joint(make_classifier):
    model = make_classifier(joint_head=8)
    torch.nn.init.normal_(model.joint.classes.weight, std=3.0)
    return model


def masks_of(model, **settings):
    settings = PseudoMaskSettings(**settings)
    return MaskNetwork(model, settings, CPU, CancelToken()).masks(
        NAMES, images_of(*[48] * 5), LABELS
    )


def test_certainty_of_the_joint_head_is_the_winners_probability_among_the_label(joint):
    found = masks_of(joint, method="joint", scales=(1.0, 1.5))
    for i, image in enumerate(images_of(*[48] * 5)):
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        label = torch.from_numpy(LABELS[i : i + 1])
        how = {"method": "joint", "flips": True, "scales": (1.0, 1.5)}
        (maps,) = depth_maps(joint, x, label, **how)
        assert found[i].masks.shape == (1, 48, 48)
        expected = torch.softmax(maps, 1).amax(1)[0].numpy()
        np.testing.assert_allclose(found[i].certainty / 255, expected, atol=0.004)
        assert found[i].certainty.min() >= 255 // LABELS[i].sum()


@pytest.mark.parametrize("method", ["joint", "gradcam"])
def test_uncertain_pixels_stay_without_class(joint, method):
    every = masks_of(joint, method=method, flips=False, certainty=0)
    middle = float(np.median([one.certainty for one in every])) / 255
    found = masks_of(joint, method=method, flips=False, certainty=middle)
    for one, two in zip(every, found, strict=True):
        doubtful = one.certainty < round(middle * 255)
        np.testing.assert_array_equal(two.masks, np.where(doubtful, 255, one.masks))
    assert 0 < np.mean([(two.masks == 255).mean() for two in found]) < 1


def test_refined_masks_are_those_of_the_filtered_maps(joint):
    once = {"method": "joint", "flips": False, "scales": (1.0,), "certainty": 0}
    plain = masks_of(joint, **once)
    found = masks_of(joint, **once, refine_px=4)
    for i, image in enumerate(images_of(*[48] * 5)):
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        absent = ~torch.from_numpy(LABELS[i : i + 1])[:, :, None, None]
        (maps,) = depth_maps(joint, x, ~absent[:, :, 0, 0], method="joint")
        maps = guided_filter(maps.masked_fill(absent, 0), x, 4).masked_fill(absent, -torch.inf)
        assert (found[i].masks == masks_from_maps([maps])[0].numpy()).mean() > 0.999
        assert (found[i].certainty != plain[i].certainty).any()


def test_lack_of_memory_gives_the_same_masks(make_classifier, monkeypatch):
    model = make_classifier()
    images = images_of(48, 48, 48, 64, 48)
    settings = PseudoMaskSettings(precision="fp32", flips=False)
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
        assert (one.masks == two.masks).mean() > 0.999
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


@pytest.mark.parametrize(
    ("architecture", "method", "certainty", "scales"),
    [
        ({"deep_supervision": True, "joint_head": 64}, "joint", 0.7, (0.66, 1.0, 1.25, 1.5)),
        ({"deep_supervision": True}, "heads", 0.0, (1.0,)),
        ({"deep_supervision": False}, "gradcam", 0.0, (1.0,)),
        ({}, "gradcam", 0.0, (1.0,)),
    ],
)
def test_the_best_maps_that_a_classifier_has_are_taken(architecture, method, certainty, scales):
    found = PseudoMaskSettings().resolved(architecture)
    assert (found.method, found.certainty, found.scales) == (method, certainty, scales)
    assert found.resolved({}) == found
    mine = PseudoMaskSettings(method="gradcam", certainty=0.3, scales=(2.0,))
    assert mine.resolved(architecture) == mine


def test_masks_by_default_are_those_of_the_joint_head(joint):
    for one, two in zip(
        masks_of(joint), masks_of(joint, method="joint", certainty=0.7), strict=True
    ):
        np.testing.assert_array_equal(one.masks, two.masks)
        assert len(one.masks) == 1
