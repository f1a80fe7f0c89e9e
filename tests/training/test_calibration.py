"""The temperature from patch labels: recovered where it is known, harmless elsewhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.models import read_info
from napari_wsss.training import calibration, train_classifier, train_segmenter
from napari_wsss.training.calibration import (
    Bags,
    fitted_temperature,
    held_out_temperature,
    pixel_bags,
)


def bags(temperature: float, n: int = 400, pixels: int = 200) -> Bags:
    """Return patches whose labels are drawn from the probabilities at a known temperature.

    All pixels of a patch are alike, so that the one at the rank says what the label is.
    """
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, (n, 2))
    p = 1 / (1 + np.exp(scores[:, 1] - scores[:, 0]))
    first = rng.random(n) < p
    labels = np.stack([first, ~first], 1).astype(np.float32)
    logits = torch.tensor(scores * temperature, dtype=torch.float32)
    return Bags(logits[..., None].expand(-1, -1, pixels), torch.from_numpy(labels))


@pytest.mark.parametrize("temperature", [1.3, 2.0, 4.0])
def test_a_known_temperature_is_found(temperature):
    assert fitted_temperature(bags(temperature)) == pytest.approx(temperature, rel=0.15)


def test_a_model_is_never_made_surer():
    assert fitted_temperature(bags(0.5)) == 1.0


def test_the_rank_is_the_share_that_makes_a_label():
    # A tenth of the pixels says "yes" boldly, the others "no"; the label says "yes".
    logits = torch.zeros(20, 2, 100)
    logits[:, 0], logits[:, 0, :10] = -4, 4
    sure = Bags(logits, torch.ones(20, 2))
    assert fitted_temperature(sure, share=0.05) == 1.0
    assert fitted_temperature(sure, share=0.2) == pytest.approx(calibration.BOUNDS[1], rel=0.01)


def test_too_few_patches_say_nothing(make_patches, tmp_path, classifier_settings):
    patches = make_patches(12)
    model = train_classifier(patches, tmp_path / "c.safetensors", classifier_settings())
    assert held_out_temperature(patches, model, torch.device("cpu")) == 1.0
    assert model.info.temperature == 1.0


def test_glass_is_left_out(make_patches, tmp_path, classifier_settings):
    patches = make_patches(4)
    model = train_classifier(patches, tmp_path / "c.safetensors", classifier_settings())
    white = replace(patches, glass="ignore")
    object.__setattr__(white, "read", lambda i: half_white(patches.read(i)))
    found = pixel_bags(model, white, torch.device("cpu"))
    assert found.logits.shape == (4, 2, calibration.PIXELS)
    tissue = replace(white, glass="tissue")
    object.__setattr__(tissue, "read", white.read)
    assert not torch.equal(found.logits, pixel_bags(model, tissue, torch.device("cpu")).logits)


def half_white(image):
    image = image.copy()
    image[:, 16:] = 255
    return image


def test_training_stores_it_and_never_reads_a_mask(
    make_patches, tmp_path, classifier_settings, segmenter_settings, monkeypatch
):
    monkeypatch.setattr(calibration, "FEWEST", 4)
    monkeypatch.setattr(calibration, "fitted_temperature", lambda bags: 1.5)
    patches = make_patches(18)
    masks = replace(patches, masks=None)
    out = tmp_path / "c.safetensors"
    classifier = train_classifier(masks, out, classifier_settings())
    assert classifier.info.temperature == 1.5
    assert read_info(out).temperature == classifier.info.temperature
    from napari_wsss.cams import generate_pseudo_masks

    pseudo = generate_pseudo_masks(masks, classifier, tmp_path / "pseudo")
    twice = [
        train_segmenter(masks, pseudo, tmp_path / f"s{i}.safetensors", segmenter_settings())
        for i in range(2)
    ]
    assert twice[0].info.temperature == 1.5
    assert (tmp_path / "s0.safetensors").read_bytes() == (tmp_path / "s1.safetensors").read_bytes()
    alone = train_segmenter(
        masks, pseudo, tmp_path / "all.safetensors", segmenter_settings(validation_share=0.0)
    )
    assert alone.info.temperature == 1  # nothing was held out
