"""Labels that may be wrong are found by what other images say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.patches import PatchSet, load_patches, report
from napari_wsss.patches.doubts import doubtful_labels, doubts_problem, neighbours_opinion


def patch_set(labels, groups):
    n = len(labels)
    return PatchSet(
        paths=tuple(Path(f"/nowhere/p{i}.png") for i in range(n)),
        names=tuple(f"p{i}" for i in range(n)),
        labels=np.array(labels, bool),
        classes=ClassTable.from_names(["a", "b"]),
        mpp=None,
        groups=tuple(groups),
        split=("train",) * n,
        glass="tissue",
        masks=None,
        root=Path("/nowhere"),
        format="table",
    )


@pytest.fixture
def told_apart():
    """Features that tell both classes, but for noise, and 400 patches of 8 images."""
    rng = np.random.default_rng(0)
    labels = rng.random((400, 2)) < 0.5
    features = np.hstack([labels - 0.5, np.ones((400, 1))]) + rng.normal(0, 0.05, (400, 3))
    return features, patch_set(labels, [f"g{i % 8}" for i in range(400)])


def found(features, patches):
    x = features / np.linalg.norm(features, axis=1, keepdims=True)
    return doubtful_labels(patches, neighbours_opinion(x, patches.labels, patches.groups))


def test_wrong_labels_come_first(told_apart):
    features, patches = told_apart
    wrong = patches.labels.copy()
    wrong[[3, 50], 0] ^= True
    wrong[77, 1] ^= True
    doubts = found(features, replace(patches, labels=wrong))
    assert {(d.name, d.class_name, d.given) for d in doubts} == {
        ("p3", "a", bool(wrong[3, 0])),
        ("p50", "a", bool(wrong[50, 0])),
        ("p77", "b", bool(wrong[77, 1])),
    }
    assert all(d.disagree >= 0.9 for d in doubts)
    assert found(features, patches) == []


def test_the_image_of_a_patch_does_not_speak_for_itself(told_apart):
    features, patches = told_apart
    # One image of its own look, with wrong labels that its own patches would confirm.
    own = np.array(patches.groups) == "g0"
    wrong = patches.labels ^ (own[:, None] & np.array([True, False]))
    marked = np.hstack([features, own[:, None] * 0.3])
    names = {d.name for d in found(marked, replace(patches, labels=wrong))}
    assert names == set(np.array(patches.names)[own])


def test_nothing_is_said_of_patches_with_hardly_any_others():
    patches = patch_set([(1, 0), (0, 1)] * 8, ["g0"] * 8 + ["g1"] * 8)
    assert np.isnan(neighbours_opinion(np.eye(16), patches.labels, patches.groups)).all()
    assert found(np.eye(16), patches) == []


def test_what_the_report_says(told_apart):
    features, patches = told_apart
    wrong = patches.labels.copy()
    wrong[3, 0] ^= True
    doubts = found(features, replace(patches, labels=wrong))
    (problem,) = doubts_problem(doubts, 400)
    word = "given" if wrong[3, 0] else "missing"
    assert problem.severity == "warning"
    assert f"p3: 'a' is {word}" in problem.message.splitlines()[1]
    assert doubts_problem([], 400) == []


def test_the_packaged_encoder_finds_a_wrong_patch(tmp_path, monkeypatch):
    from PIL import Image

    rng = np.random.default_rng(0)
    rows = ["path,group,dark,bright"]
    for i in range(60):
        bright = i % 2
        pixels = rng.normal(200 if bright else 60, 20, (32, 32 + i % 3, 3)).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"p{i:02}.png")
        said = bright if i != 7 else 1 - bright
        rows.append(f"p{i:02}.png,g{i % 5},{1 - said},{said}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    monkeypatch.setattr("napari_wsss.patches.features.PatchNetwork.__init__", _random_network)
    patches = load_patches(tmp_path)
    plain = report(patches, device="cpu")
    assert not any("speak against" in p.message for p in plain.problems)
    checked = report(patches, check_labels=True, device="cpu")
    (text,) = [p.message for p in checked.problems if "speak against" in p.message]
    assert "p07: " in text.splitlines()[1]


def _random_network(self, classifier, patch_mpp, device="auto"):
    """A small encoder in place of the packaged one."""
    import torch

    from napari_wsss.models import Encoder
    from napari_wsss.settings import EncoderSettings

    torch.manual_seed(0)
    self.device = torch.device("cpu")
    self._head, self.classes, self.key = None, (), "small"
    self._net = Encoder(EncoderSettings(name="test_resnet", weights="random", output_stride=32))
    self._net.eval()
