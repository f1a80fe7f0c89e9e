"""A segmenter that begins with the encoder of the classifier before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.cams import generate_pseudo_masks
from napari_wsss.errors import CheckpointError
from napari_wsss.jobs import Log
from napari_wsss.models import Classifier, Segmenter
from napari_wsss.training import TrueMasks, train_segmenter, with_corrections
from napari_wsss.training.split import make_info
from napari_wsss.training.start import rare_class, start_from_classifier


@pytest.fixture
def classifier(patches, classifier_settings):
    torch.manual_seed(7)
    settings = classifier_settings()
    info = make_info("classifier", patches, settings, settings.architecture, "patch labels")
    return Classifier(info).eval()


@pytest.fixture
def pseudo(patches, classifier, tmp_path):
    return generate_pseudo_masks(replace(patches, masks=None), classifier, tmp_path / "pseudo")


@pytest.fixture
def segmenter(patches, segmenter_settings):
    def make(**changes):
        torch.manual_seed(8)
        settings = segmenter_settings(encoder_stages=3, **changes)
        info = make_info("segmenter", patches, settings, settings.architecture, "pseudo masks")
        return Segmenter(info)

    return make


def weights(model):
    return {k: v.clone() for k, v in model.encoder.net.state_dict().items()}


def is_same(one, other):
    return all(torch.equal(value, other[key]) for key, value in one.items())


def test_the_stages_that_it_has_are_those_of_the_classifier(pseudo, classifier, segmenter):
    model = segmenter()
    assert not is_same(weights(model), weights(classifier))
    (said,) = start_from_classifier(model, pseudo)
    assert is_same(weights(model), weights(classifier))
    assert isinstance(said, Log)
    assert "classifier has learnt" in said.message


def test_corrections_beside_pseudo_masks_change_nothing(
    patches, pseudo, classifier, segmenter, make_patches
):
    corrected = make_patches(3, name="corrected", seed=5)
    corrected = replace(corrected, names=tuple(f"c-{name}" for name in corrected.names))
    _, both = with_corrections(patches, pseudo, corrected)
    model = segmenter()
    list(start_from_classifier(model, both))
    assert is_same(weights(model), weights(classifier))


def test_true_masks_come_from_no_classifier(patches, segmenter):
    model = segmenter()
    before = weights(model)
    assert list(start_from_classifier(model, TrueMasks(patches))) == []
    assert is_same(weights(model), before)


def test_a_second_round_goes_on_from_the_segmenter(patches, segmenter, tmp_path):
    before = segmenter().eval()
    masks = generate_pseudo_masks(replace(patches, masks=None), before, tmp_path / "second")
    torch.manual_seed(9)
    model = Segmenter(before.info)
    assert not is_same(weights(model), weights(before))
    (said,) = start_from_classifier(model, masks)
    assert "segmenter has learnt" in said.message
    assert is_same(weights(model), weights(before))


def test_another_encoder_begins_new_and_says_so(pseudo, segmenter):
    model = segmenter(encoder={"name": "test_efficientnet", "weights": "random", "upscale": 1})
    before = weights(model)
    (said,) = start_from_classifier(model, pseudo)
    assert "test_resnet, not test_efficientnet" in said.message
    assert is_same(weights(model), before)


def test_pseudo_masks_of_an_earlier_version_still_teach(pseudo, segmenter):
    pseudo.encoder_weights.unlink()
    assert pseudo.encoder_weights is None
    model = segmenter()
    before = weights(model)
    (said,) = start_from_classifier(model, pseudo)
    assert "begins new" in said.message
    assert is_same(weights(model), before)


def test_damaged_weights_are_refused_with_their_place(pseudo, segmenter):
    pseudo.encoder_weights.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"encoder\.safetensors is refused"):
        list(start_from_classifier(segmenter(), pseudo))


def test_the_class_of_fewest_images_is_found(patches):
    several = replace(patches, groups=tuple(str(i % 12) for i in range(len(patches))))
    counts = {
        name: len({g for g, has in zip(several.groups, several.labels[:, k], strict=True) if has})
        for k, name in enumerate(several.classes.names)
    }
    rarest = min(counts, key=lambda name: counts[name])
    assert counts[rarest] < 10
    assert rare_class(several) == (rarest, counts[rarest])
    labels = np.zeros_like(patches.labels)
    labels[:, 0] = True  # a class without patches does not count
    assert rare_class(replace(several, labels=labels)) is None


@pytest.mark.parametrize(
    ("start_from", "images", "begins"),
    [("classifier", 1, True), ("encoder", 12, False), ("auto", 12, True), ("auto", 9, False)],
)
def test_the_setting_decides_and_by_itself_the_number_of_images(
    patches, pseudo, classifier, tmp_path, segmenter_settings, events, start_from, images, begins
):
    labels = np.ones_like(patches.labels)
    groups = tuple(str(i % images) for i in range(len(patches)))
    patches = replace(patches, labels=labels, groups=groups)
    settings = segmenter_settings(
        epochs=1,
        steps_per_epoch=1,
        start_from=start_from,
        validation_share=0,
        teacher={"relabel_from": 1, "decay": 0},
    )
    # A rate of learning this small leaves the weights where they began.
    settings = settings.changed(optimiser={"encoder_lr": 1e-9, "head_lr": 1e-9})
    model = train_segmenter(
        replace(patches, masks=None),
        pseudo,
        tmp_path / "s.safetensors",
        settings,
        on_event=events.append,
    )
    there = weights(classifier)
    near = all(torch.allclose(v, there[k], atol=1e-5) for k, v in weights(model).items())
    assert near == begins
    said = [e.message for e in events if isinstance(e, Log)]
    assert any("begins with what the classifier" in message for message in said) == begins
    rare = any("occurs in 9 images or slides, fewer than 10" in message for message in said)
    assert rare == (start_from == "auto" and not begins)
