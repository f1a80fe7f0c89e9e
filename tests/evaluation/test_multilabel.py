import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_wsss.errors import DataError
from napari_wsss.evaluation import average_precision, multilabel_scores


def test_hand_computed_average_precision():
    # found at ranks 1 and 3 of 4: (1/1 + 2/3) / 2
    labels, found = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(labels, found) == pytest.approx((1 + 2 / 3) / 2)


def test_ties_do_not_depend_on_order():
    labels, found = np.array([1, 0, 0, 1]), np.full(4, 0.5)
    assert average_precision(labels, found) == average_precision(labels[::-1], found) == 0.5


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_equals_torchmetrics(data):
    import torch
    from torchmetrics.functional.classification import (
        binary_average_precision,
        multilabel_exact_match,
    )

    shape = data.draw(st.tuples(st.integers(2, 20), st.integers(2, 4)))
    labels = data.draw(arrays(np.int64, shape, elements=st.integers(0, 1)))
    # few distinct scores, so that ties occur
    found = data.draw(arrays(np.int64, shape, elements=st.integers(0, 8))) / 8
    s = multilabel_scores(labels, found)
    for i, ap in enumerate(s.ap.values()):
        n = labels[:, i].sum()
        assert (ap is None) == (n in (0, len(labels)))
        if ap is not None:
            expected = binary_average_precision(
                torch.from_numpy(found[:, i]), torch.from_numpy(labels[:, i])
            )
            assert ap == pytest.approx(float(expected), abs=1e-6)
    exact = multilabel_exact_match(
        torch.from_numpy(found), torch.from_numpy(labels), num_labels=shape[1]
    )
    assert s.exact_match == pytest.approx(float(exact), abs=1e-6)


def test_class_that_all_or_no_patches_have_is_left_out_and_named():
    labels = np.array([[1, 0, 1], [1, 0, 0]])
    s = multilabel_scores(labels, np.array([[0.9, 0.1, 0.8], [0.9, 0.1, 0.2]]), ["a", "b", "c"])
    assert s.left_out == ("a", "b")
    assert s.ap == {"a": None, "b": None, "c": 1.0}
    assert (s.mean_ap, s.exact_match, s.n_patches) == (1.0, 1.0, 2)


def test_threshold_counts_at_or_below_as_absent():
    s = multilabel_scores(np.array([[1, 0]]), np.array([[0.5, 0.5]]))
    assert s.exact_match == 0
    assert multilabel_scores(np.array([[1, 0]]), np.array([[0.51, 0.5]])).exact_match == 1


def test_no_patches_give_nan_without_a_warning(recwarn):
    s = multilabel_scores(np.zeros((0, 2), int), np.zeros((0, 2)))
    assert np.isnan([s.mean_ap, s.exact_match]).all()
    assert not recwarn.list
    assert np.isnan(average_precision(np.zeros(3), np.arange(3.0)))


@pytest.mark.parametrize(
    ("labels", "found", "says"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"\(N, K\)"),
        (np.zeros(2), np.zeros(2), r"\(N, K\)"),
        (np.array([[0, 2]]), np.zeros((1, 2)), "0 or 1"),
        (np.zeros((2, 2)), np.array([[0, 0], [0, np.nan]]), "number 1"),
    ],
)
def test_bad_input_is_refused(labels, found, says):
    with pytest.raises(DataError, match=says):
        multilabel_scores(labels, found)


def test_bad_single_class_input_is_refused():
    with pytest.raises(DataError, match="NaN"):
        average_precision(np.array([1, 0]), np.array([np.nan, 0]))
    with pytest.raises(DataError, match=r"\(N,\)"):
        average_precision(np.array([1, 0]), np.array([0.1]))
    with pytest.raises(DataError, match="3 class names"):
        multilabel_scores(np.zeros((1, 2)), np.zeros((1, 2)), ["a", "b", "c"])
