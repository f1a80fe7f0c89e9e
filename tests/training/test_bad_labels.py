"""Labels as they come: some wrong, one class rare, one never alone. No class may vanish."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from napari_wsss.cams import generate_pseudo_masks
from napari_wsss.evaluation import ConfusionMatrix, scores
from napari_wsss.inference import Engine, image_logits
from napari_wsss.patches import report
from napari_wsss.recipes import recipe
from napari_wsss.training import train_classifier, train_segmenter

LEARNS = {
    "epochs": 4,
    "steps_per_epoch": 12,
    "batch_size": 8,
    "optimiser": {"encoder_lr": 3e-3, "head_lr": 1e-2, "freeze_batch_norm": False},
}
RECIPE = recipe("default")
HEADS = RECIPE.classifier.model_dump(include={"deep_supervision", "joint_head", "joint_loss"})
ROBUST = RECIPE.segmenter.model_dump(include={"noise", "teacher", "choose_by"})


@pytest.fixture
def weakly_trained(tmp_path, classifier_settings, segmenter_settings):
    """Train both phases on labels alone and return the IoU of every class on true masks."""

    def train(patches):
        blind = replace(patches, masks=None)
        classifier = train_classifier(
            blind, tmp_path / "c.safetensors", classifier_settings(**LEARNS, **HEADS)
        )
        pseudo = generate_pseudo_masks(
            blind, classifier, tmp_path / "pseudo", RECIPE.pseudo_masks.changed(glass="tissue")
        )
        model = train_segmenter(
            blind, pseudo, tmp_path / "s.safetensors", segmenter_settings(**LEARNS, **ROBUST)
        )
        engine, matrix = Engine(model, device="cpu"), ConfusionMatrix(2)
        for i in range(len(patches)):
            found = image_logits(engine, patches.read(i), 32).labels()
            matrix.update(patches.read_mask(i), found)
        return scores(matrix, patches.classes.names).iou

    return train


def relabelled(patches, labels):
    return replace(patches, labels=labels)


def test_a_tenth_of_the_labels_wrong(make_patches, weakly_trained):
    patches = make_patches(60, groups=10)
    labels = patches.labels.copy()
    wrong = np.random.default_rng(0).choice(60, 6, replace=False)
    labels[wrong, wrong % 2] ^= True
    labels[~labels.any(1)] = True
    iou = weakly_trained(relabelled(patches, labels))
    assert min(iou.values()) > 0.4, iou


def test_one_class_twenty_times_rarer(make_patches, weakly_trained):
    patches = make_patches(138, groups=10)
    alone = np.flatnonzero(~patches.labels[:, 0])  # lines alone
    dots = np.flatnonzero(~patches.labels[:, 1])[:2]
    patches = patches.subset(np.sort(np.concatenate([alone, dots])))
    counts = patches.labels.sum(0)
    assert counts[1] / counts[0] >= 20
    assert any("times the patches of 'dots'" in p.message for p in report(patches).problems)
    iou = weakly_trained(patches)
    assert min(iou.values()) > 0.2, iou


def test_one_class_never_without_the_other(make_patches, weakly_trained):
    patches = make_patches(60, groups=10)
    patches = patches.subset(patches.labels[:, 1])  # dots only beside lines
    assert any("occurs only together" in p.message for p in report(patches).problems)
    iou = weakly_trained(patches)
    assert min(iou.values()) > 0.2, iou
