"""The mean teacher: its average, its judgement, and runs with it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.training.test_segmenter import write_pseudo
from torch import nn

from napari_wsss.errors import SettingsError
from napari_wsss.jobs import CancelToken, EpochEnd
from napari_wsss.models import load_segmenter
from napari_wsss.training import segmenter_job, train_segmenter
from napari_wsss.training.batches import Batch
from napari_wsss.training.goal import Goal, relabels
from napari_wsss.training.teacher import Teacher, judged

OFF = {"decay": 0, "relabel_from": 1}
TEACHER = {"decay": 0.9, "relabel_from": 0.5, "negatives": 0.5}


@pytest.fixture
def pseudo(patches, tmp_path):
    return write_pseudo(patches, tmp_path / "pseudo")


def test_the_average_follows_the_weights_slower_and_slower():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    teacher = Teacher(0.9)
    teacher.start(model)
    teacher.update(model)
    nn.init.constant_(model.weight, 1.0)
    expected = 0.0
    for n in range(1, 200):
        teacher.update(model)
        stays = min(0.9, (1 + n) / (10 + n))
        expected = stays * expected + (1 - stays)
    assert float(teacher.model.weight) == pytest.approx(expected)
    assert not teacher.model.weight.requires_grad
    other = Teacher(0.9)
    other.start(model)
    other.load(teacher.state())
    assert torch.equal(other.model.weight, teacher.model.weight)


def test_it_gives_no_class_that_the_patch_does_not_have():
    logits = torch.zeros(2, 3, 2, 2)
    logits[:, 2] = 5.0  # what it takes for the best everywhere
    logits[:, 1] = 1.0
    found = judged(logits, torch.tensor([[1.0, 1, 0], [0, 0, 0]]), 0.0)
    assert (found.masks[0] == 1).all()
    assert (found.masks[1] == 2).all()  # nothing is known of it
    assert not found.possible[0, 2].any()


def test_the_most_uncertain_pixels_get_no_label():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 0, 0] = torch.tensor([4.0, 0.1, 3.0, 2.0])
    found = judged(logits, torch.ones(1, 2), 0.25)
    assert found.masks.flatten().tolist() == [0, 255, 0, 0]
    assert found.possible[0, 1].flatten().tolist() == [False, True, False, True]


def test_alignment_gives_classes_equal_shares_on_average():
    teacher = Teacher(0.9)
    logits = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    logits[:, 0] += 2.0  # the broad one
    labels = torch.tensor([[1.0, 1, 0]]).repeat(8, 1)

    def share(values):
        return float((judged(values, labels, 0.0).masks == 0).float().mean())

    assert share(logits) > 0.9
    for _ in range(50):
        found = teacher.aligned(logits, labels, 1.0)
    wanted = found[:, :2].softmax(1).mean((0, 2, 3))
    assert 0.4 < float(wanted[0]) < 0.6
    assert share(found) < share(teacher.aligned(logits, labels, 0.5)) < 0.9
    assert torch.equal(teacher.aligned(logits, labels, 0.0), logits)
    assert torch.equal(found[:, 2], logits[:, 2])  # no patch has it


def test_relabelling_begins_where_it_is_told(segmenter_settings):
    settings = segmenter_settings(epochs=4, teacher=TEACHER)
    assert [relabels(settings, e) for e in range(4)] == [False, False, True, True]
    assert not relabels(segmenter_settings(teacher=OFF), 1)


def test_relabelling_without_a_teacher_is_refused(segmenter_settings):
    with pytest.raises(SettingsError, match=r"set teacher\.decay"):
        segmenter_settings(teacher={"decay": 0, "relabel_from": 0.5})


def test_only_doubtful_patches_are_relabelled(segmenter_settings):
    """A patch whose mask is right is learnt from it, whatever the teacher says."""

    class Says(nn.Module):
        def __init__(self, k):
            super().__init__()
            self.k = k

        def forward(self, x):
            logits = torch.zeros(len(x), 2, 4, 4)
            logits[:, self.k] = 8.0
            return logits, torch.zeros(len(x), 2)

    settings = segmenter_settings(
        epochs=2, gate_weight=0, teacher={"decay": 0.9, "relabel_from": 0, "unreliable": 0}
    )
    teacher = Teacher(0.9)
    teacher.start(Says(1))
    goal = Goal(settings, (1.0,), teacher)
    masks = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    images, labels = torch.zeros(2, 3, 4, 4), torch.ones(2, 2)

    def loss(model, trusted):
        batch = Batch(images, labels, masks, torch.tensor(trusted))
        return float(goal.loss(model, images, batch, 0))

    assert loss(Says(1), [False, False]) < 0.01
    assert loss(Says(0), [True, True]) < 0.01
    assert loss(Says(1), [True, False]) == pytest.approx(4, abs=0.01)  # half of 8


def test_glass_stays_without_a_class(segmenter_settings):
    settings = segmenter_settings(
        epochs=2, teacher={"decay": 0.9, "relabel_from": 0, "unreliable": 0}
    )
    seen = []

    class Net(nn.Module):
        def forward(self, x):
            return torch.zeros(len(x), 2, 4, 4), torch.zeros(len(x), 2)

    teacher = Teacher(0.9)
    teacher.start(Net())
    goal = Goal(settings, (1.0,), teacher)
    masks = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    masks[:, :, 0] = 255
    batch = Batch(torch.zeros(1, 3, 4, 4), torch.ones(1, 2), masks)
    new, *_ = goal._relabelled(
        batch.images, torch.zeros(1, 2, 4, 4), batch, torch.tensor([False]), None, 0
    )
    seen = new[0, 0]
    assert (seen[0] == 255).all()
    assert (seen[1:] != 255).all()


def test_a_resumed_run_with_a_teacher_equals_one_that_never_stopped(
    patches, pseudo, tmp_path, segmenter_settings
):
    settings = segmenter_settings(epochs=4, teacher=TEACHER, choose_by="last")
    whole = train_segmenter(patches, pseudo, tmp_path / "a.safetensors", settings)
    cancel = CancelToken()
    job = segmenter_job(patches, pseudo, tmp_path / "b.safetensors", settings, cancel=cancel)
    for event in job:
        if isinstance(event, EpochEnd) and event.epoch == 3:
            break
    job.close()
    train_segmenter(patches, pseudo, tmp_path / "b.safetensors", settings)
    again = load_segmenter(tmp_path / "b.safetensors")
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in whole.state_dict().items())
    assert [h["best"] for h in whole.history] == [1.0] * 4  # the last epoch is kept


def test_the_average_is_what_is_kept(patches, pseudo, tmp_path, segmenter_settings):
    common = {"epochs": 2, "choose_by": "last", "validation_share": 0}
    plain = train_segmenter(
        patches, pseudo, tmp_path / "a.safetensors", segmenter_settings(**common, teacher=OFF)
    )
    averaged = train_segmenter(
        patches,
        pseudo,
        tmp_path / "b.safetensors",
        segmenter_settings(**common, teacher={"decay": 0.9, "relabel_from": 1}),
    )
    name = "classifier.weight"
    a, b = plain.state_dict()[name], averaged.state_dict()[name]
    assert not torch.equal(a, b)
    assert np.isfinite(b.numpy()).all()
