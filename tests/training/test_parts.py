"""Augmentation, batches, losses, optimiser and schedule, each by itself."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from napari_wsss.errors import DataError
from napari_wsss.models import Classifier, ModelInfo
from napari_wsss.settings import (
    AugmentationSettings,
    EncoderSettings,
    OptimiserSettings,
    PDASettings,
)
from napari_wsss.training.augment import augment, dihedral, jitter_stain
from napari_wsss.training.batches import PatchLoader, draw
from napari_wsss.training.classifier import pda_mu
from napari_wsss.training.losses import multi_layer_loss
from napari_wsss.training.optim import factor, make_optimiser, set_training_mode


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


# -- Progressive Dropout Attention ------------------------------------------------------


def test_mu_is_off_for_three_epochs_then_decays_to_its_floor():
    settings = PDASettings()
    values = [pda_mu(settings, epoch) for epoch in range(60)]
    assert values[:3] == [None, None, None]
    assert values[3:5] == pytest.approx([0.985, 0.985**2])
    assert all(b == pytest.approx(0.985 * a) for a, b in pairwise(values[3:31]))
    assert values[-1] == min(values[3:]) == 0.65
    assert pda_mu(PDASettings(enabled=False), 10) is None


# -- augmentation -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_masks_follow_their_images(size):
    values = torch.randint(0, 256, (16, 1, *size), generator=generator(), dtype=torch.uint8)
    images = values.expand(-1, 3, -1, -1) / 255
    masks = values.expand(-1, 2, -1, -1)
    settings = AugmentationSettings(stain=0, color=0)
    found, moved = augment(images, masks, settings, generator())
    torch.testing.assert_close(found[:, :2], moved / 255)
    changed = (moved != masks).flatten(1).any(1)
    assert 4 < changed.sum() < 16


def test_flips_give_all_symmetries_of_the_square():
    image = torch.arange(9.0).view(1, 1, 3, 3)
    flags = torch.tensor([[i & 1, i >> 1 & 1, i >> 2] for i in range(8)]).T.bool()
    found = dihedral(image.expand(8, -1, -1, -1), flags)
    assert len({tuple(f.flatten().tolist()) for f in found}) == 8
    assert torch.equal(found[0], image[0])


def test_the_same_state_gives_the_same_batch():
    images = torch.rand(4, 3, 8, 8, generator=generator())
    one, two, other = (
        augment(images, None, AugmentationSettings(), generator(s))[0] for s in (3, 3, 4)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_images_stay_between_zero_and_one():
    images = torch.rand(32, 3, 8, 8, generator=generator())
    images[:4], images[4:8] = 0, 1
    found, _ = augment(images, None, AugmentationSettings(stain=1, color=1), generator())
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_stain_jitter_of_no_strength_changes_nothing():
    images = torch.rand(4, 3, 8, 8, generator=generator()).clamp_min(1 / 255)
    torch.testing.assert_close(jitter_stain(images, 1e-9, generator()), images)
    assert torch.equal(
        jitter_stain(torch.ones(2, 3, 4, 4), 1.0, generator()), torch.ones(2, 3, 4, 4)
    )


def test_stain_jitter_scales_the_density_of_a_pure_stain():
    eosin = torch.tensor([0.072, 0.990, 0.105])
    amount = torch.rand(5, 1, 6, 6, generator=generator())
    images = torch.exp(-amount * F.normalize(eosin, dim=0).view(1, 3, 1, 1))
    found = jitter_stain(images, 0.5, generator(1))
    ratio = torch.log(found[:, 1]) / torch.log(images[:, 1])
    spread = ratio.flatten(1).max(1).values - ratio.flatten(1).min(1).values
    assert spread.max() < 1e-3  # one factor per image
    factors = ratio.flatten(1)[:, 0]
    assert factors.min() > 0.5
    assert factors.max() < 1.5
    assert factors.std() > 0.05


def test_colours_keep_their_precision_under_autocast():
    images = torch.rand(4, 3, 8, 8, generator=generator())
    expected, _ = augment(images, None, AugmentationSettings(), generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = augment(images, None, AugmentationSettings(), generator(1))
    assert torch.equal(found, expected)


# -- batches ----------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 3, 7])
def test_without_balance_every_patch_comes_before_any_comes_again(steps):
    labels = np.eye(2, dtype=bool)[[0] * 9 + [1]]
    batches = draw(labels, 4, steps, 0.0, 5)
    assert len(batches) == (steps or 3)
    assert all(len(b) == 4 for b in batches)
    flat = np.concatenate(batches)
    counts = np.bincount(flat, minlength=10)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize(("balance", "expected"), [(0.5, 1 / (1 + 3)), (1.0, 0.5)])
def test_balance_draws_rare_classes_more_often(balance, expected):
    labels = np.eye(2, dtype=bool)[[0] * 90 + [1] * 10]
    flat = np.concatenate(draw(labels, 100, 60, balance, 0))
    assert (flat >= 90).mean() == pytest.approx(expected, abs=0.03)


def test_a_patch_is_drawn_for_its_rarest_class():
    labels = np.array([[1, 0]] * 8 + [[1, 1]] * 2, bool)
    flat = np.concatenate(draw(labels, 100, 40, 1.0, 0))
    weights = np.array([1 / 10] * 8 + [1 / 2] * 2)
    share = np.bincount(flat, minlength=10) / len(flat)
    np.testing.assert_allclose(share, weights / weights.sum(), atol=0.02)


def test_draws_depend_on_the_seed_alone():
    labels = np.eye(3, dtype=bool)[np.arange(30) % 3]
    for balance in (0.0, 0.7):
        one, two, other = (draw(labels, 5, 4, balance, s) for s in (1, 1, 2))
        assert one == two
        assert one != other


class Masks:
    """Targets whose deepest layer is the patch's number."""

    def __init__(self, patches, size=None, value=None):
        self.patches, self.size, self.value = patches, size, value

    def targets(self, name):
        side = self.size or self.patches.read(self.patches.names.index(name)).shape[0]
        return np.full((2, side, side), 0 if self.value is None else self.value, np.uint8)


def test_loader_keeps_the_order_and_pads_to_the_largest(make_patches):
    patches = make_patches(6, sizes=(32, 20))
    loader = PatchLoader(patches, Masks(patches))
    batches = list(loader.batches([[1, 0], [3], [2, 2, 1]]))
    assert [tuple(b.images.shape) for b in batches] == [
        (2, 3, 32, 32),
        (1, 3, 20, 20),
        (3, 3, 32, 32),
    ]
    first = batches[0]
    assert first.images.dtype == torch.uint8
    image = torch.from_numpy(patches.read(1)).permute(2, 0, 1)
    assert torch.equal(first.images[0, :, :20, :20], image)
    assert torch.equal(first.images[0, :, :20, 20:], image.flip(-1)[..., :12])  # mirrored
    assert (first.targets[0, :, :20, :20] == 0).all()
    assert (first.targets[0, :, 20:] == 255).all()  # padding is no class
    assert (first.targets[1] == 0).all()
    assert torch.equal(first.labels, torch.tensor(patches.labels[[1, 0]]).float())
    assert torch.equal(batches[2].images[0], batches[2].images[1])
    assert list(loader.batches([])) == []


@pytest.mark.parametrize(
    ("masks", "message"),
    [({"size": 31}, "31 x 31 px, the patch 32 x 32"), ({"value": 2}, "holds 2, which is none")],
)
def test_masks_that_do_not_fit_are_refused(patches, masks, message):
    loader = PatchLoader(patches, Masks(patches, **masks))
    with pytest.raises(DataError, match=message):
        list(loader.batches([[0]]))


# -- losses -----------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_over_depths():
    logits = torch.randn(2, 3, 4, 4, generator=generator())
    masks = torch.randint(0, 3, (2, 3, 4, 4), generator=generator(1), dtype=torch.uint8)
    masks[0, 0, :2] = 255
    masks[1, 2] = 255
    expected = 0.0
    for depth, weight in enumerate((0.2, 0.2, 0.6)):
        log_p = torch.log_softmax(logits, 1)
        terms = [
            -log_p[n, int(masks[n, depth, y, x]), y, x]
            for n in range(2)
            for y in range(4)
            for x in range(4)
            if masks[n, depth, y, x] != 255
        ]
        expected += weight * torch.stack(terms).mean()
    found = multi_layer_loss(logits, masks, (0.2, 0.2, 0.6))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(multi_layer_loss(logits, masks, (1, 1, 3)), found)


def test_ignored_pixels_have_no_gradient_and_a_batch_of_them_no_loss():
    logits = torch.randn(1, 2, 2, 2, generator=generator(), requires_grad=True)
    masks = torch.tensor([[[[0, 255], [255, 1]]]], dtype=torch.uint8)
    multi_layer_loss(logits, masks, (1.0,)).backward()
    assert (logits.grad[0, :, [0, 1], [1, 0]] == 0).all()
    assert (logits.grad[0, :, [0, 1], [0, 1]] != 0).all()
    nothing = multi_layer_loss(logits, torch.full_like(masks, 255), (1.0,))
    assert nothing.item() == 0
    nothing.backward()
    assert torch.isfinite(logits.grad).all()


# -- optimiser --------------------------------------------------------------------------


@pytest.fixture
def model(patches):
    encoder = EncoderSettings(name="test_resnet", weights="random", upscale=1.0)
    info = ModelInfo(
        kind="classifier", encoder=encoder, classes=patches.classes.to_dict(), patch_size_px=32
    )
    return Classifier(info)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_rates_momentum_and_decay_are_where_they_belong(model, name):
    settings = OptimiserSettings(
        name=name, encoder_lr=0.01, head_lr=0.1, weight_decay=0.5, momentum=0.7
    )
    optimiser = make_optimiser(model, settings)
    found = {id(p): group for group in optimiser.param_groups for p in group["params"]}
    assert len(found) == len(list(model.parameters()))
    for key, p in model.named_parameters():
        group = found[id(p)]
        assert group["lr"] == group["base_lr"] == (0.01 if key.startswith("encoder.") else 0.1)
        assert group["weight_decay"] == (0.5 if p.ndim > 1 else 0.0)
        if name == "sgd":
            assert (group["momentum"], group["dampening"]) == (0.7, 0)
    assert isinstance(optimiser, {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[name])


def test_the_schedule_warms_up_and_ends_at_nothing():
    settings = OptimiserSettings(warmup=0.1)
    rates = [factor(settings, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 11 for i in range(10)])
    assert rates[10] == 1.0
    assert all(b < a for a, b in pairwise(rates[10:]))
    assert 0 < rates[-1] < 0.001
    assert factor(settings, 100, 100) == pytest.approx(0)


def test_the_poly_schedule_is_that_of_deeplab():
    settings = OptimiserSettings(schedule="poly", warmup=0, power=0.9)
    assert factor(settings, 0, 50) == 1.0
    assert factor(settings, 20, 50) == pytest.approx(0.6**0.9)
    assert factor(settings, 50, 50) == 0.0


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_keeps_its_statistics_if_asked(model, frozen):
    before = {k: v.clone() for k, v in model.encoder.state_dict().items() if "running" in k}
    set_training_mode(model, frozen)
    model(torch.rand(4, 3, 32, 32))
    same = [torch.equal(v, model.encoder.state_dict()[k]) for k, v in before.items()]
    assert all(same) if frozen else not any(same)
    assert model.training
