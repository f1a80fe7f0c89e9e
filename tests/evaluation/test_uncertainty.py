"""Risk against coverage and calibration, against definitions written out pixel by pixel."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError
from napari_wsss.evaluation import Reliability, ReliabilityCounts


def counted(right, uncertainty, probability=None):
    """Return the counts of a row of pixels of which `right` are predicted rightly."""
    truth = np.zeros((1, len(right)), np.uint8)
    prediction = np.where(right, 0, 1).astype(np.uint8)[None]
    u = np.asarray(uncertainty, float)[None]
    p = np.full(u.shape, 0.5) if probability is None else np.asarray(probability, float)[None]
    return ReliabilityCounts().update(truth, prediction, u, p)


def measured(*args, **kwargs):
    return Reliability.from_counts([counted(*args, **kwargs)])


def test_aurc_is_the_mean_risk_of_all_prefixes():
    rng = np.random.default_rng(0)
    u = rng.permutation(255) / 254  # no two pixels alike
    right = rng.random(255) > u * 0.6
    wrong = ~right[np.argsort(u)]
    prefixes = wrong.cumsum() / np.arange(1, 256)
    assert measured(right, u).aurc == pytest.approx(prefixes.mean(), abs=0.01)


def test_an_order_by_chance_has_the_error_rate():
    right = np.arange(1000) % 5 > 0
    found = measured(right, np.full(1000, 0.3))
    assert found.aurc == pytest.approx(0.2)
    assert found.error_rate == pytest.approx(0.2)
    assert found.errors_found(0.1) == pytest.approx(0.1)


def test_the_best_order_is_the_best():
    right = np.arange(10_000) >= 2000
    found = measured(right, np.where(right, 0.1, 0.9))
    assert found.aurc == pytest.approx(found.aurc_best, abs=1e-6)
    assert found.errors_found(0.1) == pytest.approx(0.5)
    worst = measured(right, np.where(right, 0.9, 0.1))
    assert worst.aurc > found.error_rate > found.aurc


def test_risk_rises_to_the_error_rate_at_full_coverage():
    right = np.arange(100) < 80
    coverage, risk = measured(right, np.where(right, 0.0, 1.0)).curve(10)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(0.2)
    assert np.allclose(risk[:8], 0)


def test_calibration():
    right = np.arange(100) < 80
    assert measured(right, np.zeros(100), np.full(100, 0.8)).ece == pytest.approx(0, abs=1e-9)
    sure = measured(right, np.zeros(100), np.ones(100))
    assert sure.ece == pytest.approx(0.2)
    assert sure.calibration() == pytest.approx(np.array([[1.0, 0.8, 1.0]]))


def test_ignored_pixels_do_not_count():
    truth = np.array([[0, IGNORE, 0]], np.uint8)
    prediction = np.array([[0, 1, 1]], np.uint8)
    ones = np.ones((1, 3))
    counts = ReliabilityCounts().update(truth, prediction, ones, ones)
    assert counts.ranked.sum(0).tolist() == [2, 1]
    assert counts.binned[-1].tolist() == [2, 1, 2]


def test_images_add_up_and_give_intervals():
    rng = np.random.default_rng(1)
    parts = [counted(rng.random(50) > 0.3, rng.random(50), rng.random(50)) for _ in range(6)]
    found = Reliability.from_counts(parts, seed=3, temperature=1.5)
    assert found.ranked[:, 0].sum() == 300
    low, high = found.aurc_interval95
    assert 0 < low < found.aurc < high < 1
    assert Reliability.from_counts(parts, seed=3).ece_interval95 == found.ece_interval95
    data = found.to_dict()
    assert data["temperature"] == 1.5
    assert data["aurc_chance"] == pytest.approx(found.error_rate)
    json.dumps(data, allow_nan=False)
    assert math.isnan(Reliability.from_counts(parts[:1]).aurc_interval95[0])


def test_without_labelled_pixels_nothing_is_known():
    nothing = np.full((1, 2), IGNORE, np.uint8)
    counts = ReliabilityCounts().update(nothing, nothing, np.ones((1, 2)), np.ones((1, 2)))
    found = Reliability.from_counts([counts])
    assert math.isnan(found.aurc)
    assert math.isnan(found.ece)
    assert found.calibration().shape == (0, 3)
    assert np.isnan(found.curve(4)[1]).all()


def test_shapes_must_fit():
    a, b = np.zeros((2, 2), np.uint8), np.zeros((2, 3))
    with pytest.raises(DataError, match="shapes"):
        ReliabilityCounts().update(a, a, b, b)
    with pytest.raises(DataError, match="no images"):
        Reliability.from_counts([])
