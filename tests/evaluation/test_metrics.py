import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError
from napari_wsss.evaluation import ConfusionMatrix, scores

TRUTH = np.array([[0, 0, 0, 1], [1, 1, 1, IGNORE]], np.uint8)
FOUND = np.array([[0, 0, 1, 1], [1, 0, 255, 0]], np.uint8)


def test_hand_computed_case():
    matrix = ConfusionMatrix(2).update(TRUTH, FOUND)
    assert matrix.counts.tolist() == [[2, 1, 0], [1, 2, 1]]
    s = scores(matrix, ["tumour", "stroma"])
    # tumour: 2 right, 1 missed, 1 too many; stroma: 2 right, 2 missed, 1 too many
    assert s.iou == {"tumour": pytest.approx(2 / 4), "stroma": pytest.approx(2 / 5)}
    assert s.dice == {"tumour": pytest.approx(4 / 6), "stroma": pytest.approx(4 / 7)}
    assert s.miou == pytest.approx(0.45)
    assert s.fwiou == pytest.approx((3 * 0.5 + 4 * 0.4) / 7)
    assert s.accuracy == pytest.approx(4 / 7)
    assert s.mean_dice == pytest.approx((4 / 6 + 4 / 7) / 2)
    assert s.support == {"tumour": 3, "stroma": 4}


def test_pixels_predicted_as_nothing_count_against_their_class():
    truth = np.zeros(10, np.uint8)
    found = np.where(np.arange(10) < 5, 0, 255).astype(np.uint8)
    assert scores(ConfusionMatrix(2).update(truth, found)).iou["class 0"] == 0.5


def test_absent_class_is_left_out_but_a_false_alarm_is_not():
    truth = np.array([0, 0, 1, 1])
    absent = scores(ConfusionMatrix(3).update(truth, truth))
    assert absent.iou["class 2"] is None
    assert absent.dice["class 2"] is None
    assert absent.miou == absent.mean_dice == 1
    alarm = scores(ConfusionMatrix(3).update(truth, np.array([0, 0, 1, 2])))
    assert alarm.iou["class 2"] == 0
    assert alarm.miou == pytest.approx((1 + 0.5 + 0) / 3)


def test_no_labelled_pixel_gives_nan_means_and_no_warning(recwarn):
    s = scores(ConfusionMatrix(2).update(np.full(4, IGNORE), np.zeros(4, int)))
    assert np.isnan([s.miou, s.fwiou, s.accuracy, s.mean_dice]).all()
    assert not recwarn.list


@settings(max_examples=30, deadline=None)
@given(k=st.integers(2, 6), data=st.data())
def test_equals_torchmetrics(k, data):
    import torch
    from torchmetrics.functional.classification import (
        multiclass_accuracy,
        multiclass_confusion_matrix,
        multiclass_f1_score,
        multiclass_jaccard_index,
    )

    shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    truth = data.draw(arrays(np.int64, shape, elements=st.sampled_from([*range(k), IGNORE])))
    found = data.draw(arrays(np.int64, shape, elements=st.integers(0, k - 1)))
    truth.flat[0] = 0  # at least one labelled pixel
    matrix = ConfusionMatrix(k).update(truth, found)
    s = scores(matrix)
    args = (torch.from_numpy(found), torch.from_numpy(truth), k)
    expected = multiclass_confusion_matrix(*args, ignore_index=IGNORE)
    np.testing.assert_array_equal(matrix.counts[:, :k], expected.numpy())
    each = multiclass_jaccard_index(*args, average="none", ignore_index=IGNORE).numpy()
    for iou, other in zip(s.iou.values(), each, strict=True):
        assert (iou or 0) == pytest.approx(other, abs=1e-6)
    weighted = multiclass_jaccard_index(*args, average="weighted", ignore_index=IGNORE)
    assert s.fwiou == pytest.approx(float(weighted), abs=1e-6)
    macro = multiclass_jaccard_index(*args, average="macro", ignore_index=IGNORE)
    assert s.miou == pytest.approx(float(macro), abs=1e-6)
    accuracy = multiclass_accuracy(*args, average="micro", ignore_index=IGNORE)
    assert s.accuracy == pytest.approx(float(accuracy), abs=1e-6)
    f1 = multiclass_f1_score(*args, average="none", ignore_index=IGNORE).numpy()
    for dice, other in zip(s.dice.values(), f1, strict=True):
        assert (dice or 0) == pytest.approx(other, abs=1e-6)


def test_parts_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 3, (2, 8, 9))
    whole = ConfusionMatrix(3).update(truth, found)
    top = ConfusionMatrix(3).update(truth[:3], found[:3])
    low = ConfusionMatrix(3).update(truth[3:], found[3:])
    assert top + low == whole
    assert top.n_pixels == 27  # adding left the parts alone
    assert top.add(low) == whole
    assert ConfusionMatrix.from_counts(whole.counts) == whole
    assert ConfusionMatrix.from_counts(whole.counts[:, :3]) == whole


def test_normalized_rows_sum_to_one_or_are_unknown():
    rows = ConfusionMatrix.from_counts([[3, 1, 0], [0, 0, 0]]).normalized()
    np.testing.assert_array_equal(rows[0], [0.75, 0.25, 0])
    assert np.isnan(rows[1]).all()


@pytest.mark.parametrize(
    ("truth", "found", "says"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), "shape"),
        (np.zeros(2), np.zeros(2, int), "float64"),
        (np.zeros(2, int), np.zeros(2), "float64"),
        (np.array([0, 7]), np.array([0, 0]), "holds 7"),
        (np.array([0, -1]), np.array([0, 0]), "holds -1"),
    ],
)
def test_bad_input_is_refused_and_counts_nothing(truth, found, says):
    matrix = ConfusionMatrix(2)
    with pytest.raises(DataError, match=says):
        matrix.update(truth, found)
    assert matrix.n_pixels == 0


def test_bad_matrices_are_refused():
    for counts in ([1, 2], [[1, 2, 3, 4]], [[-1, 0], [0, 0]], [[0.5, 0], [0, 0]]):
        with pytest.raises(DataError):
            ConfusionMatrix.from_counts(counts)
    with pytest.raises(DataError, match="at least one"):
        ConfusionMatrix(0)
    with pytest.raises(DataError, match="cannot be added"):
        ConfusionMatrix(2).add(ConfusionMatrix(3))
    with pytest.raises(DataError, match="3 class names"):
        scores(ConfusionMatrix(2), ["a", "b", "c"])
