from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from napari_wsss.cams import depth_maps, fuse, supports_gradcam
from napari_wsss.cams.masks import masks_from_maps
from napari_wsss.errors import ModelError

WANTED = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.bool)


def textbook_maps(model, images, wanted):
    """Grad-CAM as in its paper: hooks, and a full pass per image, class and depth."""
    modules = [
        dict(model.encoder.net.named_modules())[model.encoder._stage_names[s]]
        for s in model.stages
    ]
    size = images.shape[-2:]
    result = [torch.full((*wanted.shape, *size), -torch.inf, dtype=images.dtype) for _ in modules]
    for d, module in enumerate(modules):
        for n, k in wanted.nonzero().tolist():
            kept = {}
            handle = module.register_forward_hook(lambda _, __, out, kept=kept: kept.update(f=out))
            x = images[n : n + 1].clone().requires_grad_()
            logit = model(x).logits[-1][0, k]
            handle.remove()
            (gradient,) = torch.autograd.grad(logit, kept["f"])
            cam = (gradient.mean((2, 3), keepdim=True) * kept["f"]).sum(1, keepdim=True)
            # The deepest gradient is 1 / pixels of the head's weight; the CAM is the head's map.
            scale = kept["f"].shape[2] * kept["f"].shape[3] if d == len(modules) - 1 else 1
            large = F.interpolate(cam.detach() * scale, size, mode="bilinear")
            result[d][n, k] = large[0, 0]
    return result


@pytest.mark.parametrize(
    ("name", "depths"),
    [
        ("test_resnet", (-3, -2, -1)),
        ("test_resnet", (-5, -1)),
        ("tf_efficientnet_lite0", (-3, -2, -1)),
        ("mobilenetv3_small_050", (-3, -2, -1)),
    ],
)
def test_gradcam_equals_the_textbook(make_classifier, name, depths):
    # In double precision, since a rounding error that crosses the kink of a ReLU is no error.
    model = make_classifier(name=name, depths=list(depths)).double()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 48, 64, generator=generator, dtype=torch.float64)
    expected = textbook_maps(model, images, WANTED)
    found = depth_maps(model, images, WANTED, method="gradcam")
    assert len(found) == len(expected)
    for one, two in zip(found, expected, strict=True):
        largest = two[torch.isfinite(two)].abs().max()
        torch.testing.assert_close(one / largest, (two / largest).float(), atol=1e-5, rtol=1e-4)
    same = masks_from_maps(found) == masks_from_maps(expected)
    assert same.float().mean() > 0.999
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("flips", [False, True])
def test_relative_maps_have_the_same_arg_max_in_one_pass_less(make_classifier, monkeypatch, flips):
    model = make_classifier().double()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 48, 64, generator=generator, dtype=torch.float64)
    passes = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: passes.append(1) or grad(*a, **k))
    masks = {}
    for relative in (False, True):
        passes.clear()
        maps = depth_maps(model, images, WANTED, method="gradcam", flips=flips, relative=relative)
        assert len(passes) == (2 if relative else 3) * (4 if flips else 1)
        masks[relative] = masks_from_maps(maps)
        for m in maps:
            assert torch.equal(torch.isfinite(m).all(3).all(2), WANTED)
    assert len(masks[False].unique()) >= 2
    assert (masks[False] == masks[True]).float().mean() > 0.999


def test_maps_do_not_depend_on_the_batch(classifier):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    together = depth_maps(classifier, images, WANTED, method="gradcam")
    for n in range(4):
        alone = depth_maps(classifier, images[n : n + 1], WANTED[n : n + 1], method="gradcam")
        for one, two in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], two[n])


def test_the_deepest_map_is_that_of_the_head(classifier):
    images = torch.rand(2, 3, 32, 32)
    wanted = torch.ones(2, 3, dtype=torch.bool)
    deepest = depth_maps(classifier, images, wanted, method="gradcam")[-1]
    with torch.no_grad():
        torch.testing.assert_close(deepest, classifier.dense(images).logits)


def test_one_depth_needs_no_backward_pass(make_classifier, monkeypatch):
    model = make_classifier(depths=[-1])
    monkeypatch.setattr(torch.autograd, "grad", lambda *_, **__: pytest.fail("backward pass"))
    maps = depth_maps(model, torch.rand(4, 3, 32, 32), WANTED, method="gradcam")
    assert [tuple(m.shape) for m in maps] == [(4, 3, 32, 32)]


@pytest.fixture
def joint(make_classifier):
    model = make_classifier(joint_head=8)
    torch.nn.init.normal_(model.joint.classes.weight, std=100.0)  # sure here, unsure there
    return model


def test_probabilities_of_the_joint_head_are_averaged_over_scales(joint):
    images = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    absent = ~WANTED[:, :, None, None]
    large = F.interpolate(images, (48, 72), mode="bilinear", align_corners=False)
    with torch.no_grad():
        views = [
            F.interpolate(joint.joint_map(joint.features(x)), (32, 48), mode="bilinear")
            for x in (images, large)
        ]
    views = [view.masked_fill(absent, -torch.inf) for view in views]
    mean = (views[0].softmax(1) + views[1].softmax(1)) / 2
    assert (mean - ((views[0] + views[1]) / 2).softmax(1)).abs().max() > 0.01
    (found,) = depth_maps(joint, images, WANTED, method="joint", scales=(1.0, 1.5))
    torch.testing.assert_close(found.softmax(1), mean)
    # They are as strong as those of one view are.
    strength = (views[0].logsumexp(1) + views[1].logsumexp(1)) / 2
    torch.testing.assert_close(found.logsumexp(1), strength)


def test_maps_of_other_classes_leave_those_of_the_label_as_they_are(joint):
    images = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    every = torch.ones_like(WANTED)
    how = {"method": "joint", "scales": (0.66, 1.5), "flips": True}
    (alone,) = depth_maps(joint, images, WANTED, **how)
    (found,) = depth_maps(joint, images, every, label=WANTED, **how)
    absent = (~WANTED[:, :, None, None]).expand_as(found)
    assert torch.equal(found.masked_fill(absent, -torch.inf), alone)
    # What is not in the label is averaged by itself.
    alone = [depth_maps(joint, images, every, method="joint", scales=(s,))[0] for s in (1.0, 1.5)]
    (both,) = depth_maps(joint, images, every, label=WANTED, method="joint", scales=(1.0, 1.5))
    torch.testing.assert_close(both[absent], ((alone[0] + alone[1]) / 2)[absent])


@pytest.mark.parametrize(
    ("scales", "seen"),
    [
        ((1.0,), [(32, 0), (32, 1), (32, 2), (32, 3)]),
        ((0.5, 1.0), [(16, 0), (32, 1), (16, 2), (32, 3)]),
        ((0.5, 1.0, 2.0), [(16, 0), (32, 1), (64, 2), (16, 3), (32, 0), (64, 1)]),
        ((0.5, 0.75, 1.0, 1.5, 2.0), [(16, 0), (24, 1), (32, 2), (48, 3), (64, 0)]),
    ],
)
def test_every_scale_is_flipped_otherwise(joint, monkeypatch, scales, seen):
    """Which corner of the patch comes first tells the flip."""
    image = torch.zeros(1, 3, 32, 32)
    for flip, (y, x) in enumerate([(0, 0), (0, 16), (16, 0), (16, 16)]):
        image[:, :, y : y + 16, x : x + 16] = flip
    found = []
    features = joint.features

    def looked(x):
        found.append((x.shape[-1], round(float(x[0, 0, 0, 0]))))
        return features(x)

    monkeypatch.setattr(joint, "features", looked)
    depth_maps(joint, image, WANTED[:1], method="joint", scales=scales, flips=True)
    assert found == seen


def test_the_joint_head_gives_one_map(joint):
    images = torch.rand(4, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    (found,) = depth_maps(joint, images, WANTED, method="joint")
    assert torch.equal(torch.isfinite(found).all(3).all(2), WANTED)
    with torch.no_grad():
        logits = joint.dense(images).logits
    absent = ~WANTED[:, :, None, None]
    torch.testing.assert_close(found, logits.masked_fill(absent, -torch.inf))


def test_joint_maps_need_a_joint_head(classifier):
    with pytest.raises(ModelError, match="joint_head = true"):
        depth_maps(classifier, torch.rand(1, 3, 32, 32), WANTED[:1], method="joint")


@pytest.mark.parametrize("method", ["gradcam", "heads"])
def test_absent_classes_are_minus_infinity(make_classifier, method):
    model = make_classifier(deep_supervision=True)
    for flips in (False, True):
        maps = depth_maps(model, torch.rand(4, 3, 32, 32), WANTED, method=method, flips=flips)
        assert len(maps) == 3
        for m in maps:
            assert torch.equal(torch.isfinite(m).all(3).all(2), WANTED)
            assert (m[~WANTED] == -torch.inf).all()


@pytest.mark.parametrize("method", ["gradcam", "heads"])
def test_flips_are_averaged(make_classifier, method):
    model = make_classifier(deep_supervision=True)
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    wanted = torch.ones(1, 3, dtype=torch.bool)
    single = [
        [m.flip(axes) for m in depth_maps(model, images.flip(axes), wanted, method=method)]
        for axes in ((), (-1,), (-2,), (-1, -2))
    ]
    found = depth_maps(model, images, wanted, method=method, flips=True)
    for d, m in enumerate(found):
        mean = sum(one[d] for one in single) / 4
        # Scale does not matter to what is made of them, direction does.
        torch.testing.assert_close(m / m.abs().max(), mean / mean.abs().max())
        mirrored = depth_maps(model, images.flip(-1), wanted, method=method, flips=True)[d]
        torch.testing.assert_close(mirrored.flip(-1), m)


def test_heads_give_all_maps_by_one_forward_pass(make_classifier, monkeypatch):
    model = make_classifier(deep_supervision=True)
    passes = []
    features = model.features
    monkeypatch.setattr(model, "features", lambda x: passes.append(1) or features(x))
    images = torch.rand(4, 3, 32, 32)
    found = depth_maps(model, images, WANTED, method="heads")
    assert len(passes) == 1
    with torch.no_grad():
        expected = F.conv2d(features(images)[0], model.heads[0].weight)
    large = F.interpolate(expected, (32, 32), mode="bilinear")
    torch.testing.assert_close(found[0][WANTED], large[WANTED])


def test_heads_need_deep_supervision(classifier):
    with pytest.raises(ModelError, match="deep_supervision = true"):
        depth_maps(classifier, torch.rand(1, 3, 32, 32), WANTED[:1], method="heads")


@pytest.mark.parametrize(
    ("name", "possible"),
    [("test_resnet", True), ("test_vit", False), ("swin_tiny_patch4_window7_224", False)],
)
def test_encoders_whose_features_have_no_gradients_are_told(make_classifier, name, possible):
    from napari_wsss.models import Classifier

    info = make_classifier().info
    encoder = info.encoder.changed(name=name, output_stride=32)
    model = Classifier(info.model_copy(update={"encoder": encoder, "architecture": {}}))
    assert supports_gradcam(model) == possible
    assert model.training
    if not possible:
        with pytest.raises(ModelError, match="heads"):
            depth_maps(model.eval(), torch.rand(1, 3, 64, 64), WANTED[:1], method="gradcam")


@pytest.mark.parametrize(
    "value", [0.0, -3.0, 1e30, -1e30], ids=["zero", "negative", "large", "very negative"]
)
def test_an_absent_class_never_wins_a_tie(value):
    wanted = torch.tensor([[False, True, False, True], [False, False, False, True]])
    maps = torch.full((2, 4, 5, 5), value).masked_fill(~wanted[:, :, None, None], -torch.inf)
    masks = masks_from_maps([maps, maps])
    assert masks.shape == (2, 2, 5, 5)
    assert masks.dtype == torch.uint8
    assert (masks[0] == 1).all()  # the first of the present ones
    assert (masks[1] == 3).all()


def test_fused_maps_are_the_mean_of_scaled_ones():
    one = torch.tensor([[[[2.0, -1.0]], [[0.0, 1.0]], [[-torch.inf, -torch.inf]]]])
    two = torch.tensor([[[[0.1, 0.4]], [[-0.2, 0.0]], [[-torch.inf, -torch.inf]]]])
    found = fuse([one, two])
    torch.testing.assert_close(
        found[0, :2], torch.tensor([[[(1 + 0.25) / 2, (-0.5 + 1) / 2]], [[-0.25, 0.25]]])
    )
    assert (found[0, 2] == -torch.inf).all()
    nothing = fuse([torch.zeros(1, 2, 2, 2)])
    assert (nothing == 0).all()
