import json

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.evaluation import ConfusionMatrix, Evaluation, Protocol

CLASSES = ClassTable.from_names(["tumour", "stroma", "normal"])


def _per_image(n=6):
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 2, (n, 2, 50))  # 'normal' occurs nowhere
    return np.stack([ConfusionMatrix(3).update(*pair).counts for pair in pairs])


def _evaluation(n=6, **kwargs):
    counts = _per_image(n)
    return Evaluation.from_counts(
        {"predicted_gate": counts, "oracle_labels": counts}, CLASSES, **kwargs
    )


def _strict(text):
    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_holds_the_contract(tmp_path):
    path = tmp_path / "new" / "evaluation.json"
    _evaluation(conditions={"seed": 3, "mpp": float("nan")}).write_json(path)
    data = _strict(path.read_text(encoding="utf-8"))
    assert set(data) == {"protocols", "classes", "conditions", "version"}
    assert list(data["protocols"]) == ["predicted_gate", "oracle_labels"]
    for result in data["protocols"].values():
        assert {"miou", "fwiou", "accuracy", "mean_dice", "iou", "interval95"} <= set(result)
        assert set(result["iou"]) == {"tumour", "stroma", "normal"}
        assert result["iou"]["normal"] is None
        low, high = result["interval95"]
        assert 0 < low <= result["miou"] <= high < 1
        assert result["iou_interval95"]["normal"] == [None, None]
        assert result["n_images"] == 6
    assert data["protocols"]["predicted_gate"]["n_pixels"] == 300
    assert data["conditions"] == {"seed": 3, "mpp": None}
    assert ClassTable.from_dict(data["classes"]) == CLASSES


def test_one_image_has_scores_but_no_interval():
    result = _evaluation(1).to_dict()["protocols"]["predicted_gate"]
    assert result["interval95"] == [None, None]
    assert result["miou"] > 0


def test_protocols_are_measured_apart():
    right, wrong = np.zeros((2, 2, 3, 4), int)
    right[:, 0, 0] = wrong[:, 0, 1] = 5
    evaluation = Evaluation.from_counts(
        {"oracle_labels": right, "predicted_gate": wrong}, CLASSES, bootstrap=10
    )
    assert evaluation["oracle_labels"].scores.miou == 1
    assert evaluation[Protocol.PREDICTED_GATE].scores.miou == 0


def test_missing_and_unknown_protocols_and_shapes_are_refused():
    counts = _per_image()
    with pytest.raises(DataError, match="needs the protocols"):
        Evaluation.from_counts({"predicted_gate": counts}, CLASSES)
    with pytest.raises(DataError, match="no protocol 'gt'"):
        Evaluation.from_counts({"gt": counts}, CLASSES)
    with pytest.raises(DataError, match="for 3 classes"):
        Evaluation.from_counts({"predicted_gate": counts[:, :2], "oracle_labels": counts}, CLASSES)


def test_conditions_that_are_not_data_are_refused_and_nothing_is_written(tmp_path):
    evaluation = _evaluation(conditions={"model": object()})
    with pytest.raises(DataError, match="conditions"):
        evaluation.write_json(tmp_path / "e.json")
    assert list(tmp_path.iterdir()) == []


def test_existing_file_is_kept_when_it_must_be(tmp_path):
    path = tmp_path / "e.json"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        _evaluation().write_json(path, overwrite=False)
    assert path.read_text() == "mine"
    _evaluation().write_json(path)
    assert path.read_text().startswith("{")
