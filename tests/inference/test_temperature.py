"""A temperature changes how sure a model says it is, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from napari_wsss.inference import BlockPrediction, Engine, image_logits, segment_slide
from napari_wsss.inference.predict import uncertainty_map
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)


def with_temperature(model, temperature):
    model.info = model.info.model_copy(update={"temperature": temperature})
    return model


def test_entropy_is_that_of_the_divided_logits():
    logits = torch.tensor([2.0, 0.0, -1.0])[:, None, None]
    p = torch.softmax(logits[:, 0, 0] / 1.7, 0)
    expected = float(-(p * p.log()).sum()) / math.log(3)
    assert float(uncertainty_map(logits, 1.7)) == pytest.approx(expected, abs=1e-6)
    assert torch.equal(logits[:, 0, 0], torch.tensor([2.0, 0.0, -1.0]))  # not written into


def test_probabilities_of_a_block():
    logits = np.array([1.0, 0.0], np.float32)[:, None, None]
    block = BlockPrediction(logits, None, temperature=0.5)
    assert block.probabilities()[0, 0, 0] == pytest.approx(1 / (1 + math.exp(-2)))
    assert block.labels()[0, 0] == 0


def test_labels_stay(make_model, image):
    segmenter = make_model()
    settings = InferenceSettings(precision="fp32")
    plain = image_logits(Engine(segmenter, settings, device="cpu"), image, 64)
    shy = with_temperature(segmenter, 4.0)
    other = image_logits(Engine(shy, settings, device="cpu"), image, 64)
    assert np.array_equal(plain.logits, other.logits)
    assert np.array_equal(plain.labels(), other.labels())
    assert other.uncertainty().mean() > plain.uncertainty().mean()
    assert other.temperature == 4


def test_the_layer_of_a_result_knows_it(make_model, image, tmp_path):
    segmenter, stored = make_model(), []
    for temperature in (1.0, 0.3):
        model = with_temperature(segmenter, temperature)
        with open_slide(image, mpp=0.5, name="slide") as slide:
            result = segment_slide(
                slide, model, tmp_path / str(temperature), model_mpp=0.5, device="cpu"
            )
        stored.append(result)
    assert np.array_equal(stored[0].labels[:], stored[1].labels[:])
    assert not np.array_equal(stored[0].uncertainty()[:], stored[1].uncertainty()[:])
    assert "temperature" not in stored[0].run["model"]
    assert stored[1].run["model"]["temperature"] == 0.3
