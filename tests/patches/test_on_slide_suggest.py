"""Which patch to label next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, ModelError, WsssError
from napari_wsss.jobs import CancelToken, Log, Progress, run_job
from napari_wsss.models import Classifier, ModelInfo, save_model
from napari_wsss.patches import PatchGrid, PatchReader, SlideLabels, SlideRecord, suggest_job
from napari_wsss.patches.features import PatchFeatures, PatchNetwork, features_job
from napari_wsss.patches.suggest import farthest_first, label_entropy, random_order
from napari_wsss.settings import EncoderSettings
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(["a", "b", "c"])


@pytest.fixture
def slide():
    rng = np.random.default_rng(0)
    colors = rng.integers(0, 256, (6, 6, 3))
    flat = np.kron(colors, np.ones((32, 32, 1)))
    pixels = flat + rng.normal(0, 10, flat.shape)
    return open_slide(pixels.clip(0, 255).astype(np.uint8), mpp=1.0, name="case")


@pytest.fixture
def labels(slide):
    return SlideLabels(SlideRecord.of(slide), PatchGrid.over(slide, 32, 1.0), CLASSES)


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    info = ModelInfo(
        kind="classifier",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        classes=CLASSES.to_dict(),
        mpp=1.0,
        patch_size_px=32,
    )
    model = Classifier(info).eval()
    torch.nn.init.normal_(model.heads[-1].weight, std=3.0)
    return model


def test_entropy_is_largest_where_nothing_is_known():
    p = np.array([[0.5, 0.5], [0.5, 1.0], [0.0, 1.0]])
    np.testing.assert_allclose(label_entropy(p), [2, 1, 0], atol=1e-6)


def test_farthest_first_visits_every_cluster_before_any_twice():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10.0]])
    x = np.concatenate([c + rng.normal(0, 0.1, (20, 2)) for c in centres])
    order = farthest_first(x)
    assert sorted(order) == list(range(80))
    assert sorted(order[:4] // 20) == [0, 1, 2, 3]
    seen = farthest_first(x, seen=centres[:3])
    assert seen[0] // 20 == 3
    assert farthest_first(np.zeros((5, 2))).tolist()[0] in range(5)


def test_random_order_depends_on_the_seed_only():
    cells = np.arange(50)
    np.testing.assert_array_equal(random_order(cells, 3), random_order(cells[::-1], 3))
    assert (random_order(cells, 3) != random_order(cells, 4)).any()


def test_uncertain_patches_come_in_order_of_what_the_classifier_says(slide, labels, classifier):
    labels.assign([0], 1)
    candidates = np.arange(1, 36)
    events = []
    found = run_job(
        suggest_job(slide, labels, candidates, "uncertain", classifier=classifier), events.append
    )
    assert sorted(found.cells) == candidates.tolist()
    read = PatchReader(slide, labels.grid)
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([read(int(c)) for c in found.cells]))
        p = torch.sigmoid(classifier(x.permute(0, 3, 1, 2) / 255).logits[-1])
    entropy = label_entropy(p.numpy())
    assert (np.diff(entropy) <= 2e-2).all()
    assert entropy[0] > entropy[-1]
    assert [e.done for e in events if isinstance(e, Progress)][-1] == 35


def test_different_patches_are_unlike_those_labelled(slide, labels, classifier):
    labels.assign([7, 8], 1)
    found = run_job(
        suggest_job(slide, labels, np.arange(9, 36), "different", classifier=classifier)
    )
    x, seen = found.features.features(found.cells), found.features.features([7, 8])
    nearest = np.linalg.norm(x[:, None] - seen[None], axis=2).min(1)
    assert nearest[0] == pytest.approx(nearest.max(), rel=1e-3)


def test_only_some_of_many_are_looked_at_and_none_twice(slide, labels, classifier):
    network = PatchNetwork(classifier, 1.0)
    known = PatchFeatures(network.key)
    job = suggest_job(
        slide, labels, np.arange(36), "uncertain", classifier=classifier, most=10, known=known
    )
    first = run_job(job)
    assert len(first.cells) == 10
    assert first.features is known
    events = []
    job = suggest_job(slide, labels, first.cells, "different", classifier=classifier, known=known)
    run_job(job, events.append)
    assert not any(isinstance(e, Progress) for e in events)
    other = run_job(
        suggest_job(
            slide, labels, first.cells[:2], "uncertain", classifier=classifier,
            known=PatchFeatures("of another network"),
        )
    )  # fmt: skip
    assert other.features.key == network.key


def test_without_classifier_nothing_is_uncertain(slide, labels):
    with pytest.raises(ModelError, match="Train one"):
        run_job(suggest_job(slide, labels, np.arange(36), "uncertain"))


def test_without_classifier_the_packaged_encoder_compares(slide, labels):
    found = run_job(suggest_job(slide, labels, np.arange(4), "different"))
    assert sorted(found.cells) == [0, 1, 2, 3]
    assert found.features.probabilities([0]).shape == (1, 0)


def test_a_classifier_of_another_resolution_is_refused(labels, slide, classifier, tmp_path):
    path = save_model(classifier, tmp_path / "c.safetensors")
    coarse = SlideLabels(SlideRecord.of(slide), PatchGrid.over(slide, 64, 2.0), CLASSES)
    with pytest.raises(ModelError, match="1 µm/px"):
        run_job(suggest_job(slide, coarse, np.arange(4), "uncertain", classifier=path))
    assert (
        run_job(suggest_job(slide, labels, np.arange(0), "uncertain", classifier=path)).cells.size
        == 0
    )


def test_cancelling_keeps_what_was_computed(slide, labels, classifier):
    network = PatchNetwork(classifier, 1.0)
    known, cancel = PatchFeatures(network.key), CancelToken()

    def stop(event):
        if isinstance(event, Progress):
            cancel.cancel()

    job = suggest_job(
        slide, labels, np.arange(36), "uncertain", classifier=classifier, known=known,
        cancel=cancel,
    )  # fmt: skip
    with pytest.raises(CancelledError):
        run_job(job, stop)
    assert sum(cell in known for cell in range(36)) == 16


def test_lack_of_memory_halves_the_batch_and_is_said(slide, labels):
    class Small:
        key, sizes = "small", []

        def __call__(self, images):
            if len(images) > 4:
                raise RuntimeError("CUDA out of memory")
            self.sizes.append(len(images))
            return np.zeros((len(images), 2), np.float32), np.zeros((len(images), 0), np.float32)

    read, events, network = PatchReader(slide, labels.grid), [], Small()
    known = run_job(features_job(read, network, np.arange(36)), events.append)
    assert all(cell in known for cell in range(36))
    assert set(network.sizes) == {4}
    assert sum(isinstance(e, Log) for e in events) == 2

    class None_(Small):
        def __call__(self, images):
            raise MemoryError

    with pytest.raises(WsssError, match="not enough memory"):
        run_job(features_job(read, None_(), np.arange(4)))
