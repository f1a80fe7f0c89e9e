from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.cams import FUSED, Explainer, generate_pseudo_masks, scaled
from napari_wsss.classes import IGNORE
from napari_wsss.errors import CancelledError, DataError, ModelError, WsssError
from napari_wsss.jobs import CancelToken, Progress
from napari_wsss.settings import PseudoMaskSettings


@pytest.fixture
def image():
    return np.random.default_rng(7).integers(60, 180, (40, 56, 3), np.uint8)


# -- the scale --------------------------------------------------------------------------


def test_winners_span_zero_to_one_and_stay_winners():
    maps = torch.randn(3, 4, 9, 7)
    wanted = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0]], dtype=torch.bool)
    found = scaled(maps, wanted)
    assert float(found.min()) == 0
    assert float(found.max()) == 1
    winners = maps.masked_fill(~wanted[:, :, None, None], -torch.inf).argmax(1, keepdim=True)
    value = found.gather(1, winners)
    torch.testing.assert_close(value.amin((1, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(value.amax((1, 2, 3)), torch.ones(3))
    among = found.masked_fill(~wanted[:, :, None, None], -1)
    decided = value > 0  # at the weakest pixel all may be 0
    assert bool((among.argmax(1, keepdim=True) == winners)[decided].all())


def test_a_map_that_is_equal_everywhere_is_strong_everywhere():
    maps = torch.stack([torch.full((1, 5, 5), 0.25), torch.full((1, 5, 5), -1.0)], 1)
    found = scaled(maps, torch.ones(1, 2, dtype=torch.bool))
    assert found[0, 0].unique().tolist() == [1]
    assert found[0, 1].unique().tolist() == [0]


def test_classes_that_were_not_computed_are_zero():
    maps = torch.randn(1, 2, 5, 5)
    maps[:, 1] = -torch.inf
    found = scaled(maps, torch.tensor([[True, False]]))
    assert not found[0, 1].any()


# -- against the masks that are written ---------------------------------------------------


@pytest.mark.parametrize(
    ("method", "flips", "white"),
    [("gradcam", False, 0), ("gradcam", True, 8), ("heads", False, 8), ("joint", False, 8)],
)
def test_without_threshold_the_masks_are_those_that_are_written(
    make_patches, make_classifier, tmp_path, method, flips, white
):
    patches = make_patches(white=white, sizes=(48, 37))
    model = make_classifier(
        name="tf_efficientnet_lite0",
        weights="packaged",
        deep_supervision=method == "heads",
        joint_head=16 if method == "joint" else 0,
    )
    settings = PseudoMaskSettings(method=method, flips=flips, certainty=0, batch_size=1)
    written = generate_pseudo_masks(patches, model, tmp_path / "masks", settings)
    explainer = Explainer(model, settings)
    ignored = several = 0
    for i, name in enumerate(patches.names):
        found = explainer.explain(
            patches.read(i), name=name, label=patches.labels[i], glass=patches.glass
        )
        assert found.depths == (1 if method == "joint" else 3)
        masks = np.stack([found.pseudo_mask(d) for d in range(found.depths)])
        np.testing.assert_array_equal(masks, written.targets(name))
        certain = np.where(found.glass, 1, found.agreement)  # as glass is stored
        np.testing.assert_allclose(certain, written.agreement(name), atol=1e-6)
        ignored += int((masks == IGNORE).sum())
        several += len(np.unique(masks[masks != IGNORE])) > 1
    assert bool(ignored) == bool(white)
    assert several >= 2  # the maps do decide


def test_the_threshold_of_the_data_set_is_that_of_the_preview(patches, classifier, tmp_path):
    settings = PseudoMaskSettings(batch_size=1, threshold=0.4)
    written = generate_pseudo_masks(patches, classifier, tmp_path / "masks", settings)
    explainer = Explainer(classifier, settings)
    for i, name in enumerate(patches.names):
        found = explainer.explain(patches.read(i), label=patches.labels[i], glass=patches.glass)
        masks = np.stack([found.pseudo_mask(d, 0.4) for d in range(3)])
        # Rounding may decide where two classes are equal, or a map is just at the threshold.
        assert (masks == written.targets(name)).mean() > 0.999
        dropped = (masks == IGNORE).mean()
        assert dropped == 0 if patches.labels[i].sum() == 1 else 0 < dropped < 1


@pytest.mark.parametrize(("method", "certainty"), [("gradcam", 0.6), ("joint", 0.8)])
def test_the_certainty_of_the_data_set_is_that_of_the_preview(
    make_patches, make_classifier, tmp_path, method, certainty
):
    patches = make_patches(white=4)
    name, weights = ("tf_efficientnet_lite0", "packaged")
    model = make_classifier(name=name, weights=weights, joint_head=16)
    torch.nn.init.normal_(model.joint.classes.weight, std=100.0)  # sure here, unsure there
    settings = PseudoMaskSettings(method=method, batch_size=1, certainty=certainty)
    written = generate_pseudo_masks(patches, model, tmp_path / "masks", settings)
    explainer = Explainer(model, settings)
    several = []
    for i, name in enumerate(patches.names):
        found = explainer.explain(patches.read(i), label=patches.labels[i], glass=patches.glass)
        masks = np.stack([found.pseudo_mask(d, certainty=certainty) for d in range(found.depths)])
        np.testing.assert_array_equal(masks, written.targets(name))
        dropped = masks[:, 4:] == IGNORE  # below the glass
        if patches.labels[i].sum() == 1:
            assert not dropped.any()
            continue
        several.append(dropped.mean())
        truth = found.masks[0].copy()
        truth[found.certain(certainty)] = (truth[found.certain(certainty)] + 1) % 3
        assert not found.miou(truth, certainty=certainty)[0] > 0  # only certain pixels count
    assert 0 < np.mean(several) < 1


def test_raising_the_threshold_only_takes_pixels_away(classifier, image):
    found = Explainer(classifier).explain(image, label=np.ones(3, bool))
    for depth in (0, 1, 2, FUSED):
        before = found.pseudo_mask(depth)
        for threshold in (0.2, 0.5, 0.9, 1.0):
            after = found.pseudo_mask(depth, threshold)
            kept = after != IGNORE
            np.testing.assert_array_equal(after[kept], before[kept])
            np.testing.assert_array_equal(kept, found.strength[depth] >= threshold)
            assert kept.any()
            before = after


def test_the_fused_mask_is_the_brightest_fused_map(classifier, image):
    found = Explainer(classifier).explain(image, label=np.array([True, False, True]))
    assert found.maps.shape == (4, 3, 40, 56)
    strong = found.strength[FUSED] > 0
    brightest = np.where(found.maps[FUSED, 0] >= found.maps[FUSED, 2], 0, 2)
    np.testing.assert_array_equal(found.masks[FUSED][strong], brightest[strong])


# -- labels and probabilities -------------------------------------------------------------


def test_probabilities_are_those_of_the_classifier(classifier, image):
    small = np.ascontiguousarray(image[:40, :48])  # no larger than a training patch
    x = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = torch.sigmoid(classifier(x).logits[-1])[0].numpy()
    found = Explainer(classifier, PseudoMaskSettings(precision="fp32")).explain(small)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert found.label.tolist() == [bool(p > 0.1 or p == expected.max()) for p in expected]


def test_a_class_in_one_corner_of_a_region_is_found(make_classifier):
    model = make_classifier()
    rng = np.random.default_rng(0)
    image = np.full((192, 192, 3), 128, np.uint8)
    image[:48, :48] = rng.integers(0, 255, (48, 48, 3))
    explainer = Explainer(model)
    whole = explainer.explain(image).probabilities
    corner = explainer.explain(np.ascontiguousarray(image[:48, :48])).probabilities
    plain = explainer.explain(np.ascontiguousarray(image[96:144, 96:144])).probabilities
    most = np.argmax(corner - plain)
    assert whole[most] > plain[most] + 0.5 * (corner[most] - plain[most])


def test_one_label_needs_no_map_and_knows_no_threshold(classifier, image):
    found = Explainer(classifier).explain(image, label=np.array([False, True, False]))
    for threshold in (0, 1):
        assert (found.pseudo_mask(0, threshold) == 1).all()
    assert found.maps[:, 0].any()  # shown all the same


def test_quality_is_measured_per_depth(classifier, image):
    found = Explainer(classifier).explain(image, label=np.ones(3, bool))
    truth = found.masks[1].copy()
    assert found.miou(truth)[1] == 1
    truth[:10] = (truth[:10] + 1) % 3
    assert len(found.miou(truth)) == 4
    assert found.miou(truth)[1] < 1
    truth[:10] = IGNORE
    assert found.miou(truth)[1] == 1
    with pytest.raises(DataError, match="must be equal"):
        found.miou(found.masks[1][:-1])


# -- refusing, cancelling -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((15, 40, 3), "too few"), ((2049, 2048, 3), "too many"), ((40, 40), "RGB")],
)
def test_images_that_cannot_be_explained_are_refused(classifier, shape, reason):
    with pytest.raises(DataError, match=reason):
        Explainer(classifier).explain(np.zeros(shape, np.uint8))


def test_an_empty_label_is_refused(classifier, image):
    with pytest.raises(DataError, match="Tick a class"):
        Explainer(classifier).explain(image, label=np.zeros(3, bool))


def test_heads_that_were_not_trained_are_told(classifier, image):
    with pytest.raises(ModelError, match="gradcam"):
        Explainer(classifier, PseudoMaskSettings(method="heads")).explain(image)


def test_lack_of_memory_is_ours(classifier, image, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    explainer = Explainer(classifier)
    monkeypatch.setattr("napari_wsss.cams.masks.depth_maps", lambda *_, **__: full())
    with pytest.raises(WsssError, match="memory of cpu"):
        explainer.explain(image, name="p")


def test_it_is_cancelled_within_a_pass_and_goes_on_with_the_next(classifier, image):
    explainer = Explainer(classifier)
    token = CancelToken()
    job = explainer.job(image, cancel=token)
    assert next(job) == Progress("Class maps", 0, 3)
    token.cancel()
    with pytest.raises(CancelledError):
        next(job)
    assert explainer.explain(image).depths == 3


def test_a_model_in_memory_is_left_alone(classifier, image):
    before = {k: v.clone() for k, v in classifier.state_dict().items()}
    info = replace(Explainer(classifier).explain(image)).classes
    assert info == classifier.classes
    for key, value in classifier.state_dict().items():
        assert torch.equal(value, before[key])


def test_large_regions_are_looked_at_once(make_classifier, monkeypatch):
    model = make_classifier(joint_head=8)
    torch.nn.init.normal_(model.joint.classes.weight, std=100.0)  # sure here, unsure there
    monkeypatch.setattr("napari_wsss.cams.explain.LARGEST_AVERAGED_PX", 40 * 40)
    ready = Explainer(model, PseudoMaskSettings(precision="fp32"))
    once = Explainer(model, PseudoMaskSettings(precision="fp32", flips=False, scales=(1.0,)))
    rng = np.random.default_rng(0)
    for side, same in ((48, True), (40, False), (48, True)):
        image = rng.integers(0, 256, (side, side, 3), np.uint8)
        found, single = (e.explain(image, label=np.ones(3, bool)) for e in (ready, once))
        assert np.array_equal(found.maps, single.maps) == same
        assert np.array_equal(found.agreement, single.agreement) == same


@pytest.mark.parametrize("given", [False, True])
def test_a_damaged_classifier_is_told(make_classifier, image, given):
    model = make_classifier()
    torch.nn.init.constant_(model.heads[-1].weight, float("nan"))
    label = np.ones(3, bool) if given else None
    with pytest.raises(ModelError, match="'here' are no numbers"):
        Explainer(model).explain(image, name="here", label=label)


def test_the_joint_head_is_asked_once(make_classifier, monkeypatch):
    """The four sizes of a patch give its maps and its mask; a fifth pass says what is in it."""
    model = make_classifier(joint_head=8)
    ready = Explainer(model, PseudoMaskSettings(precision="fp32"))
    passes = []
    features = ready._network.model.features
    monkeypatch.setattr(
        ready._network.model, "features", lambda x: passes.append(x.shape[-1]) or features(x)
    )
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 32, 3), np.uint8)
    ready.explain(image, label=np.ones(3, bool))
    assert passes == [32, 21, 32, 40, 48]
