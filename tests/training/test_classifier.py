"""Runs of the classifier: learning, resuming, stopping, refusing."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.classes import ClassTable
from napari_wsss.errors import (
    CancelledError,
    DataError,
    OutputError,
    TrainingError,
)
from napari_wsss.jobs import CancelToken, EpochEnd, Log, Progress
from napari_wsss.models import Classifier, load_classifier
from napari_wsss.patches import PatchSet
from napari_wsss.settings.classifier import JOINT_WIDTH
from napari_wsss.training import classifier_job, history_path, train_classifier
from napari_wsss.training.loop import _exhausted
from napari_wsss.training.phase import Phase
from napari_wsss.training.state import read_state, state_path


def files(folder):
    return sorted(p.name for p in folder.iterdir() if p.is_file())


def comparable(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def same_weights(one, two):
    return all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_it_learns_to_tell_two_tissues_apart(make_patches, tmp_path, classifier_settings, events):
    patches = make_patches(24)
    settings = classifier_settings(
        epochs=3,
        steps_per_epoch=8,
        optimiser={"encoder_lr": 3e-3, "head_lr": 1e-2, "freeze_batch_norm": False},
        pda={"warmup_epochs": 2},
        joint_head=False,
        choose_by="labels",
    )
    model = train_classifier(patches, tmp_path / "c.safetensors", settings, on_event=events.append)
    ends = [e for e in events if isinstance(e, EpochEnd)]
    assert len(ends) == 3
    assert ends[-1].metrics["map"] > 0.9
    assert ends[-1].metrics["loss"] < 0.45 < ends[0].metrics["loss"]  # chance is ln 2 = 0.69
    assert model.info.metrics["map"] == max(e.metrics["map"] for e in ends)
    assert model.info.supervision == "patch labels"
    assert files(tmp_path) == ["c.safetensors", "c.safetensors.history.json"]
    history = json.loads(history_path(tmp_path / "c.safetensors").read_text())
    assert history == model.history
    assert same_weights(model, load_classifier(tmp_path / "c.safetensors"))
    steps = [e.done for e in events if isinstance(e, Progress) and e.stage == "Classifier"]
    assert steps == list(range(1, 25))


def test_the_joint_head_learns_with_the_others(patches, tmp_path, classifier_settings):
    settings = classifier_settings(epochs=2, joint_head=True)
    model = train_classifier(patches, tmp_path / "c.safetensors", settings)
    torch.manual_seed(settings.seed)
    untrained = Classifier(model.info)
    assert model.info.architecture["joint_head"] == 64
    for name, value in model.joint.named_parameters():
        assert not torch.equal(value, untrained.joint.get_parameter(name)), name


@pytest.mark.parametrize(
    ("choose_by", "kept", "best"), [("labels", 1, [1, 1, 0, 0]), ("last", 3, [1, 1, 1, 1])]
)
def test_the_best_epoch_is_kept_or_the_last(
    patches, tmp_path, classifier_settings, monkeypatch, choose_by, kept, best
):
    scores = iter([0.4, 0.9, 0.9, 0.2])
    seen = []

    def validate(model, *_):
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
        value = next(scores)
        return np.array([[value, 1 - value]])

    class Found:
        exact_match, ap = 0.0, {}

        def __init__(self, *args):
            self.mean_ap = float(args[1][0, 0])

    monkeypatch.setattr("napari_wsss.training.classifier.predict_labels", validate)
    monkeypatch.setattr("napari_wsss.training.classifier.multilabel_scores", Found)
    settings = classifier_settings(epochs=4, choose_by=choose_by)
    model = train_classifier(patches, tmp_path / "c.safetensors", settings)
    assert [row["best"] for row in model.history] == best
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in seen[kept].items())
    assert not all(torch.equal(v, seen[3][k]) for k, v in seen[1].items())
    assert model.info.metrics["map"] == [0.4, 0.9, 0.9, 0.2][kept]


def test_it_stops_when_nothing_improves():
    phase = Phase("x", lambda _: [], 1, lambda *_: torch.zeros(()), lambda *_: {}, "map", 2)
    rows = [{"best": float(b)} for b in (1, 0, 1, 0, 0)]
    assert [_exhausted(rows[:n], phase) for n in range(6)] == [False] * 5 + [True]
    assert not _exhausted(rows, replace(phase, patience=None))
    assert not _exhausted(rows, replace(phase, patience=5))


class KilledError(Exception):
    """Stands for the process being killed."""


@pytest.mark.parametrize(
    ("how", "optimiser"), [("cancelled", "adamw"), ("killed", "sgd"), ("closed", "adamw")]
)
def test_a_resumed_run_equals_one_that_never_stopped(
    patches, tmp_path, classifier_settings, how, optimiser
):
    settings = classifier_settings(
        epochs=4, pda={"warmup_epochs": 1}, optimiser={"name": optimiser}, balance=0.5
    )
    straight = train_classifier(patches, tmp_path / "one.safetensors", settings)
    out = tmp_path / "two.safetensors"
    cancel = CancelToken()
    job = classifier_job(patches, out, settings, cancel=cancel)

    def run_until_the_middle_of_epoch_three():
        for event in job:
            if isinstance(event, Progress) and event.stage == "Classifier" and event.done == 5:
                if how == "killed":
                    job.throw(KilledError())
                if how == "closed":
                    job.close()
                    raise KilledError
                cancel.cancel()

    with pytest.raises(CancelledError if how == "cancelled" else KilledError):
        run_until_the_middle_of_epoch_three()
    assert files(tmp_path)[2:] == ["two.safetensors.training"]
    torch.rand(3)  # the state of the global generator must not matter
    events = []
    resumed = train_classifier(patches, out, settings, on_event=events.append)
    assert any(isinstance(e, Log) and "after epoch 2" in e.message for e in events)
    assert [e.epoch for e in events if isinstance(e, EpochEnd)] == [3, 4]
    assert same_weights(straight, resumed)
    assert comparable(straight.history) == comparable(resumed.history)
    assert not state_path(out).exists()


def test_a_run_depends_on_its_seed_alone(patches, tmp_path, classifier_settings):
    before = torch.random.get_rng_state()
    runs = [
        train_classifier(patches, tmp_path / f"{i}.safetensors", classifier_settings(seed=seed))
        for i, seed in enumerate((0, 0, 1))
    ]
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])
    assert torch.equal(torch.random.get_rng_state(), before)  # the user's generator is untouched


@pytest.mark.parametrize("where", ["loss", "gradient", "last step"])
def test_numbers_that_are_none_stop_the_run(
    patches, tmp_path, classifier_settings, monkeypatch, where
):
    settings = classifier_settings(epochs=2)
    forward, step = Classifier.forward, torch.optim.AdamW.step
    calls = []

    def broken(self, x, mu=None):
        found = forward(self, x, mu)
        calls.append(self.training)
        if not self.training or sum(calls) < 4:
            return found
        worse = torch.nan if where == "loss" else 0
        logits = [one * worse for one in found.logits]
        return found._replace(logits=[one if worse else one.sqrt() for one in logits])

    def overflow(self):
        step(self)
        calls.append(True)
        if sum(calls) == 4:  # two in the first epoch, then the last one of the second
            self.param_groups[0]["params"][0].data += torch.inf

    if where == "last step":
        monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    else:
        monkeypatch.setattr(Classifier, "forward", broken)
    out = tmp_path / "c.safetensors"
    with pytest.raises(TrainingError, match=r"epoch 2(.|\n)*[Ll]ower(.|\n)*finished epochs"):
        train_classifier(patches, out, settings)
    assert files(tmp_path) == ["c.safetensors.training"]
    state = read_state(out)
    assert len(state["history"]) == 1
    assert all(torch.isfinite(v).all() for v in state["model"].values())


def test_existing_models_are_kept(patches, tmp_path, classifier_settings, monkeypatch):
    out = tmp_path / "c.safetensors"
    out.write_text("mine")
    monkeypatch.setattr(PatchSet, "read", lambda *_: pytest.fail("patches were read first"))
    with pytest.raises(OutputError, match="exists"):
        train_classifier(patches, out, classifier_settings())
    assert out.read_text() == "mine"
    monkeypatch.undo()
    train_classifier(patches, out, classifier_settings(epochs=1), overwrite=True)
    assert load_classifier(out).info.kind == "classifier"


def stop_after_first_epoch(patches, out, settings):
    job = classifier_job(patches, out, settings)
    for event in job:
        if isinstance(event, EpochEnd):
            job.close()
            return


def test_an_unfinished_run_is_resumed_only_with_the_same_settings(
    patches, tmp_path, classifier_settings
):
    out = tmp_path / "c.safetensors"
    stop_after_first_epoch(patches, out, classifier_settings())
    before = state_path(out).read_bytes()
    for other in (
        lambda: train_classifier(patches, out, classifier_settings(seed=1)),
        lambda: train_classifier(patches.subset(range(11)), out, classifier_settings()),
    ):
        with pytest.raises(OutputError, match="other patches or settings"):
            other()
    assert state_path(out).read_bytes() == before
    model = train_classifier(patches, out, classifier_settings(seed=1), overwrite=True)
    assert len(model.history) == 2


def test_masks_are_never_opened(make_patches, tmp_path, classifier_settings, monkeypatch):
    patches = make_patches()
    for path in patches.masks:
        path.write_bytes(b"damaged")
    monkeypatch.setattr(PatchSet, "read_mask", lambda *_: pytest.fail("a mask was read"))
    train_classifier(patches, tmp_path / "c.safetensors", classifier_settings(epochs=1))


def test_a_full_disk_is_told(patches, tmp_path, classifier_settings, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_wsss.files.os.fsync", full)
    with pytest.raises(OutputError, match="full"):
        train_classifier(patches, tmp_path / "c.safetensors", classifier_settings())
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("encoder", "depths", "warned"),
    [("test_vit", (-2, -1), True), ("test_vit", (-1,), False), ("test_resnet", (-2, -1), False)],
)
def test_encoders_without_gradcam_are_told_before_training(
    patches, tmp_path, classifier_settings, events, encoder, depths, warned
):
    fields = {"name": encoder, "weights": "random", "output_stride": 32}
    alone = {"deep_supervision": False, "joint_head": False}
    settings = classifier_settings(
        encoder=fields, depths=depths, epochs=1, steps_per_epoch=1, **alone
    )
    train_classifier(patches, tmp_path / "c.safetensors", settings, on_event=events.append)
    texts = [e.message for e in events if isinstance(e, Log) and e.level == "warning"]
    assert any("deep_supervision" in text for text in texts) == warned


@pytest.mark.parametrize("trouble", ["unreadable", "one class", "no training patches"])
def test_sets_that_cannot_be_trained_on(make_patches, tmp_path, classifier_settings, trouble):
    patches = make_patches()
    if trouble == "unreadable":
        for i in (2, 5):
            patches.paths[i].write_bytes(patches.paths[i].read_bytes()[:99])
    elif trouble == "one class":
        patches = replace(patches, labels=np.array([[True, False]] * len(patches)))
    else:
        patches = replace(patches, split=("test",) * len(patches))
    with pytest.raises(DataError) as caught:
        train_classifier(patches, tmp_path / "c.safetensors", classifier_settings())
    if trouble == "unreadable":
        assert "p02.png" in str(caught.value)
        assert "p05.png" in str(caught.value)
    assert files(tmp_path) == []


def test_what_is_weak_about_the_set_is_said_before_training(
    make_patches, tmp_path, classifier_settings, events
):
    patches = make_patches(24)
    rare = np.zeros(len(patches), bool)
    rare[np.flatnonzero(patches.labels[:, 1])[:3]] = True
    labels = np.stack([patches.labels[:, 0] | ~rare, rare], 1)
    settings = classifier_settings(epochs=1)
    train_classifier(
        replace(patches, labels=labels), tmp_path / "c", settings, on_event=events.append
    )
    said = [e for e in events if isinstance(e, Log)]
    first = next(i for i, e in enumerate(said) if e.message.startswith("Training the classifier"))
    warnings = [e.message for e in said[:first] if e.level == "warning"]
    assert any("occurs in 3 training patches only" in text for text in warnings)
    assert any(e.message.startswith("Label next:") for e in said[:first] if e.level == "info")


def test_the_header_says_what_the_model_was_made_from(patches, tmp_path, classifier_settings):
    patches = replace(patches, mpp=0.5)
    settings = classifier_settings(
        seed=7, encoder={"name": "test_resnet", "weights": "random"}, depths=[-2, -1]
    )
    info = train_classifier(patches, tmp_path / "c.safetensors", settings).info
    assert (info.mpp, info.patch_size_px, info.seed) == (0.5, 32, 7)
    assert info.upscale > 1  # 'auto' was resolved for small patches
    assert info.class_table == ClassTable.from_names(["dots", "lines"], values=[0, 1], ignore=[3])
    assert info.architecture == {
        "depths": [-2, -1], "deep_supervision": True, "joint_head": JOINT_WIDTH
    }  # fmt: skip
    assert info.training["batch_size"] == 4
