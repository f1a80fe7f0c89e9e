import numpy as np
import pytest

from napari_wsss.errors import DataError
from napari_wsss.evaluation import (
    ConfusionMatrix,
    bootstrap_class_iou,
    bootstrap_interval,
    interval,
    scores,
)


def _images(n=8, k=3, seed=0):
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, k, (n, 2, 60))
    return np.stack([ConfusionMatrix(k).update(*pair).counts for pair in pairs])


def test_bootstrap_equals_resampling_images_one_by_one():
    images, n, seed = _images(), 50, 3
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(images), np.full(len(images), 1 / len(images)), size=n)
    expected = []
    for row in weights:
        drawn = np.repeat(images, row, axis=0)
        assert len(drawn) == len(images)
        iou = scores(ConfusionMatrix.from_counts(drawn.sum(0))).iou
        expected.append(list(iou.values()))
    np.testing.assert_allclose(bootstrap_class_iou(images, n, seed), expected)
    means = np.mean(expected, axis=1)
    assert bootstrap_interval(images, n, seed) == pytest.approx(np.quantile(means, [0.025, 0.975]))


def test_interval_is_reproducible_contains_the_value_and_grows_with_level():
    images = _images(20)
    miou = scores(ConfusionMatrix.from_counts(images.sum(0))).miou
    low, high = bootstrap_interval(images, 500, seed=1)
    assert (low, high) == bootstrap_interval(images, 500, seed=1)
    assert low < miou < high
    wide = bootstrap_interval(images, 500, seed=1, level=0.99)
    assert wide[0] <= low
    assert wide[1] >= high


def test_equal_images_have_an_interval_without_width():
    low, high = bootstrap_interval(np.repeat(_images(1), 5, axis=0), 100)
    assert low == pytest.approx(high)


def test_one_image_or_no_resamples_give_no_interval():
    assert np.isnan(bootstrap_interval(_images(1), 100)).all()
    assert np.isnan(bootstrap_interval(_images(5), 0)).all()
    assert np.isnan(bootstrap_interval(_images(5)[:0], 10)).all()


def test_bad_bootstrap_input_is_refused():
    with pytest.raises(DataError, match="shape"):
        bootstrap_class_iou(np.zeros((2, 3, 3)))
    with pytest.raises(DataError, match="resamples"):
        bootstrap_class_iou(_images(), -1)
    with pytest.raises(DataError, match="level"):
        interval(np.zeros(3), 1.0)
