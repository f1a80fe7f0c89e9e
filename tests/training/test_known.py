"""What overlapping patches say of each other's pixels, in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from napari_wsss.cams.store import PseudoMasks, PseudoMaskWriter, write_record
from napari_wsss.classes import IGNORE
from napari_wsss.jobs import Log
from napari_wsss.patches import load_patches
from napari_wsss.patches.overlaps import Overlaps
from napari_wsss.training import train_classifier, train_segmenter
from napari_wsss.training.batches import UNSURE, Batch
from napari_wsss.training.goal import Goal
from napari_wsss.training.known import KnownPixels
from napari_wsss.training.mosaic import with_mosaics
from napari_wsss.training.targets import ForTeacher, leaves_out_uncertain
from napari_wsss.training.teacher import Teacher

SIDE = 32
LABELS = {(0, 0): (1, 1), (0, 16): (1, 0), (0, 32): (1, 1), (64, 64): (0, 1), (64, 80): (1, 1)}


@pytest.fixture
def overlapping(make_patches, tmp_path):
    """Patches at steps of half their side, of three pictures."""
    classes = make_patches(2).classes
    root = tmp_path / "overlapping"
    root.mkdir()
    rng = np.random.default_rng(0)
    rows = ["path,group,dots,lines"]
    for name in ("a", "b", "c"):
        picture = rng.integers(60, 180, (112, 112, 3), np.uint8)
        for (y, x), label in LABELS.items():
            file = f"{name}_y{y:05d}_x{x:05d}.png"
            Image.fromarray(picture[y : y + SIDE, x : x + SIDE]).save(root / file)
            rows.append(f"{file},{name},{label[0]},{label[1]}")
    (root / "labels.csv").write_text("\n".join(rows))
    classes.write(root / "classes.toml")
    return load_patches(root)


@pytest.fixture
def pseudo(overlapping, tmp_path):
    writer = PseudoMaskWriter(tmp_path / "pseudo", overlapping.classes, 1)
    for name in overlapping.names:
        masks = np.zeros((1, SIDE, SIDE), np.uint8)
        writer.write(name, masks, np.full((SIDE, SIDE), 255, np.uint8))
    overlapping.classes.with_index_values().write(tmp_path / "pseudo" / "classes.toml")
    write_record(
        tmp_path / "pseudo",
        {"complete": True, "fingerprint": "f", "depths": 1, "glass_is_certain": True},
    )
    return PseudoMasks(tmp_path / "pseudo")


def test_pixels_with_one_possible_class_are_known(overlapping, pseudo):
    known = KnownPixels(Overlaps(overlapping))
    (mask,) = known.targets("a_y00000_x00000")
    assert (mask[:, 16:] == 0).all()  # which the next patch has alone
    assert (mask[:, :16] == IGNORE).all()
    (single,) = known.targets("a_y00000_x00016")
    assert (single == 0).all()
    both = KnownPixels(Overlaps(overlapping), pseudo).targets("a_y00064_x00080")
    assert both.shape == (2, SIDE, SIDE)
    assert (both[0] == 0).all()
    assert (both[1, :, :16] == 1).all()


def test_known_pixels_change_what_the_joint_head_learns(
    overlapping, tmp_path, classifier_settings, events
):
    models = {}
    for on in (True, False):
        settings = classifier_settings(epochs=1, validation_share=0, overlaps=on)
        models[on] = train_classifier(
            overlapping, tmp_path / f"{on}.safetensors", settings, on_event=events.append
        )
    said = [e.message for e in events if isinstance(e, Log) and "overlap" in e.message]
    assert len(said) == 1
    assert "9 pairs" in said[0]
    weights = [models[on].joint.classes.weight for on in (True, False)]
    assert not torch.equal(*weights)


class Says(torch.nn.Module):
    """Finds the second class everywhere."""

    def forward(self, x):
        logits = torch.zeros(len(x), 2, 4, 4)
        logits[:, 1] = 8.0
        return logits, torch.zeros(len(x), 2)


@pytest.fixture
def loss(segmenter_settings):
    """The loss of a network that agrees with its teacher, by targets and known pixels."""
    settings = segmenter_settings(
        teacher={"decay": 0.9, "relabel_from": 0, "unreliable": 0, "align": 0}, gate_weight=0
    )
    teacher = Teacher(0.9)
    teacher.start(Says())
    images, labels = torch.zeros(1, 3, 4, 4), torch.ones(1, 2)

    def compute(targets, known=None, keeps=False):
        goal = Goal(settings, (1.0,), teacher, keeps)
        batch = Batch(images, labels, targets[None, None], torch.tensor([False]), known)
        return float(goal.loss(Says(), images, batch, 1))

    return compute


def test_the_teacher_keeps_to_known_pixels(loss):
    targets, known = torch.zeros(4, 4, dtype=torch.uint8), torch.full((1, 4, 4), IGNORE)
    agreed = loss(targets, known.to(torch.uint8))
    known[:, :2] = 0
    assert loss(targets, known.to(torch.uint8)) > agreed + 3


def test_pixels_that_have_a_class_keep_it_but_known_ones_are_known_better(loss):
    targets = torch.full((4, 4), UNSURE, dtype=torch.uint8)
    agreed = loss(targets, keeps=True)
    targets[:, :2] = 0  # the teacher finds the second class
    assert loss(targets) == pytest.approx(agreed)
    assert loss(targets, keeps=True) > agreed + 3
    known = torch.ones(1, 4, 4, dtype=torch.uint8)
    assert loss(targets, known, keeps=True) == pytest.approx(agreed)


def test_only_pseudo_masks_that_leave_something_out_are_kept(
    overlapping, pseudo, tmp_path, segmenter_settings
):
    weights = {}
    for certainty in (0.0, 0.8):
        record = pseudo.record
        record["settings"] = {"certainty": certainty}
        write_record(pseudo.folder, record)
        assert leaves_out_uncertain(pseudo) == (certainty > 0)
        for keep in (False, True):
            teacher = {"relabel_from": 0, "unreliable": 0, "keep_certain": keep}
            settings = segmenter_settings(epochs=1, validation_share=0, teacher=teacher)
            out = tmp_path / f"{certainty}-{keep}.safetensors"
            model = train_segmenter(overlapping, pseudo, out, settings)
            weights[certainty, keep] = model.state_dict()["classifier.weight"]
    assert torch.equal(weights[0.0, False], weights[0.0, True])
    assert not torch.equal(weights[0.8, False], weights[0.8, True])


@pytest.mark.parametrize(("value", "learnt"), [(UNSURE, True), (IGNORE, False)])
def test_the_teacher_labels_uncertain_tissue_but_no_glass(loss, value, learnt):
    found = loss(torch.full((4, 4), value, dtype=torch.uint8))
    assert (found > 0) == learnt


def test_before_the_teacher_uncertain_tissue_teaches_nothing(segmenter_settings):
    goal = Goal(segmenter_settings(gate_weight=0), (1.0,), Teacher(0.9))
    images = torch.zeros(1, 3, 4, 4)
    targets = torch.full((1, 1, 4, 4), UNSURE, dtype=torch.uint8)
    batch = Batch(images, torch.ones(1, 2), targets, torch.tensor([False]))
    assert float(goal.loss(Says(), images, batch, 0)) == 0


def test_targets_for_the_teacher_mark_what_pseudo_masks_left_out(overlapping, pseudo, tmp_path):
    name = overlapping.names[0]
    masks = np.zeros((1, SIDE, SIDE), np.uint8)
    masks[:, :8] = IGNORE
    certainty = np.full((SIDE, SIDE), 255, np.uint8)
    certainty[:4] = 100
    PseudoMaskWriter(pseudo.folder, overlapping.classes, 1).write(name, masks, certainty)
    (found,) = ForTeacher(pseudo).targets(name)
    assert (found[:4] == UNSURE).all()
    assert (found[4:8] == IGNORE).all()
    assert (found[8:] == 0).all()


def test_the_segmenter_trains_with_known_pixels(overlapping, pseudo, tmp_path, segmenter_settings):
    models = []
    for on in (True, False):
        settings = segmenter_settings(
            epochs=1, validation_share=0, overlaps=on, teacher={"relabel_from": 0, "unreliable": 0}
        )
        models.append(
            train_segmenter(overlapping, pseudo, tmp_path / f"{on}.safetensors", settings)
        )
    one, two = (m.state_dict()["classifier.weight"] for m in models)
    assert torch.isfinite(one).all()
    assert not torch.equal(one, two)


def test_mosaics_leave_known_pixels_of_other_patches():
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    targets = torch.full((3, 1, 8, 8), IGNORE, dtype=torch.uint8)
    targets[0, 0, :4] = 1
    found = with_mosaics(Batch(images, labels, targets), 1, torch.Generator().manual_seed(0))
    assert found.targets.shape == (2, 1, 8, 8)
    assert torch.equal(found.targets[0], targets[0])
    assert set(found.targets[1].unique().tolist()) == {0, 1}


def test_uncertain_tissue_is_labelled_only_if_asked(
    overlapping, pseudo, tmp_path, segmenter_settings, monkeypatch
):
    asked = []
    monkeypatch.setattr(PseudoMasks, "unsure", lambda self, name: asked.append(name) or False)
    for on in (False, True):
        teacher = {"relabel_from": 0, "label_uncertain": on}
        settings = segmenter_settings(epochs=1, validation_share=0, teacher=teacher)
        train_segmenter(overlapping, pseudo, tmp_path / f"{on}.safetensors", settings)
        assert bool(asked) == on
