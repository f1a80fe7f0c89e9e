from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, ModelError
from napari_wsss.inference import BlockPrediction
from napari_wsss.settings import EvaluationSettings
from napari_wsss.workflows import evaluate
from napari_wsss.workflows.measure import predict_image


class Oracle:
    """Stands in for the network: bright pixels are 'right', with a wrong gate."""

    def __init__(self, allowed: tuple[bool, bool], temperature: float = 1.0):
        self.allowed, self.temperature = allowed, temperature

    def __call__(self, engine, image, patch_size_px, model_mpp, mpp=None):
        # A box of 5 x 5 removes the noise of the pictures.
        from scipy.ndimage import uniform_filter

        bright = uniform_filter(image.mean(2), 5) > 130
        logits = np.stack([~bright, bright]).astype(np.float32)
        allowed = np.broadcast_to(np.array(self.allowed)[:, None, None], logits.shape)
        return BlockPrediction(logits, allowed, temperature=self.temperature)


def test_perfect_network_scores_near_one_under_both_protocols(monkeypatch, segmenter, pictures):
    monkeypatch.setattr("napari_wsss.workflows.measure.predict_image", Oracle((True, True)))
    found = evaluate(segmenter, *pictures)
    assert found["predicted_gate"].scores.miou > 0.95
    assert found["oracle_labels"].scores.miou > 0.95
    low, high = found["predicted_gate"].interval95
    assert low <= found["predicted_gate"].scores.miou <= high


def test_protocols_stay_apart(monkeypatch, segmenter, pictures):
    """A gate that removes a class spoils one protocol and leaves the other alone."""
    monkeypatch.setattr("napari_wsss.workflows.measure.predict_image", Oracle((True, False)))
    found = evaluate(segmenter, *pictures)
    assert found["predicted_gate"].scores.iou["right"] == 0
    assert found["oracle_labels"].scores.miou > 0.95


def test_uncertainty_is_measured(monkeypatch, segmenter, pictures):
    plain, bold = (Oracle((True, True), temperature) for temperature in (1.0, 0.1))
    monkeypatch.setattr("napari_wsss.workflows.measure.predict_image", plain)
    first = evaluate(segmenter, *pictures)
    monkeypatch.setattr("napari_wsss.workflows.measure.predict_image", bold)
    second = evaluate(segmenter, *pictures)
    # The stand-in is right nearly everywhere but says so with probability 0.73 only.
    assert first.reliability.ece > 0.2 > second.reliability.ece
    assert first["predicted_gate"].scores == second["predicted_gate"].scores
    assert first.to_dict()["uncertainty"]["temperature"] == 1


def test_the_temperature_of_the_model_is_used(segmenter, pictures):
    first = evaluate(segmenter, *pictures, settings=EvaluationSettings(bootstrap=0))
    segmenter.info = segmenter.info.model_copy(update={"temperature": 3.0})
    second = evaluate(segmenter, *pictures, settings=EvaluationSettings(bootstrap=0))
    assert second.reliability.temperature == 3
    steps = [r.reliability.ranked[:, 0] @ np.arange(255) for r in (first, second)]
    assert steps[1] > steps[0]  # less sure everywhere
    assert first["predicted_gate"].scores == second["predicted_gate"].scores


def test_ignored_pixels_do_not_count(monkeypatch, segmenter, pictures):
    monkeypatch.setattr("napari_wsss.workflows.measure.predict_image", Oracle((True, True)))
    found = evaluate(segmenter, *pictures).to_dict()["protocols"]["predicted_gate"]
    assert found["n_pixels"] == 3 * 96 * 95
    assert found["n_images"] == 3


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_real_networks_run_and_report_conditions(kind, request, pictures):
    model = request.getfixturevalue(kind)
    found = evaluate(model, *pictures, settings=EvaluationSettings(bootstrap=10))
    data = found.to_dict()
    assert data["conditions"]["model"] == kind
    assert 0 <= data["protocols"]["predicted_gate"]["miou"] <= 1


def test_prediction_keeps_the_pixels_of_images_at_another_resolution(segmenter):
    from napari_wsss.inference import Engine

    image = np.full((64, 50, 3), 200, np.uint8)
    found = predict_image(Engine(segmenter), image, 32, 1.0, 0.5)
    assert found.labels().shape == (64, 50)


def test_every_pair_that_does_not_fit_is_listed(tmp_path, segmenter):
    images, masks = tmp_path / "i", tmp_path / "m"
    images.mkdir()
    masks.mkdir()
    for name, size in (("a", 8), ("b", 8), ("c", 8)):
        Image.new("RGB", (size, size)).save(images / f"{name}.png")
    Image.new("L", (9, 8)).save(masks / "a.png")
    Image.new("L", (8, 8)).save(masks / "b.png")
    with pytest.raises(DataError) as error:
        evaluate(segmenter, images, masks)
    assert "a.png: 9 x 8 px" in str(error.value)
    assert "c.png: no mask" in str(error.value)
    assert "b.png" not in str(error.value)


def test_other_classes_are_refused(segmenter, pictures):
    other = ClassTable.from_names(["right", "left"], [1, 2])
    with pytest.raises(ModelError, match="same order"):
        evaluate(segmenter, *pictures, classes=other)


def test_empty_folders_are_refused(tmp_path: Path, segmenter):
    (tmp_path / "i").mkdir()
    (tmp_path / "m").mkdir()
    with pytest.raises(DataError, match="no images"):
        evaluate(segmenter, tmp_path / "i", tmp_path / "m")
