"""``evaluate``: the contract of its JSON, its tables and its report."""

import json

import pytest


@pytest.fixture
def evaluate(cli, segmenter, pairs):
    def run(*args):
        folders = ("--images", pairs / "images", "--masks", pairs / "masks")
        return cli("evaluate", "--model", segmenter, *folders, *args)

    return run


def test_the_json_contract(evaluate, tmp_path):
    result = evaluate("--json", tmp_path / "e.json", "--set", "bootstrap=20", "--flips")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert set(found["protocols"]) == {"predicted_gate", "oracle_labels"}
    for numbers in found["protocols"].values():
        for name in ("miou", "fwiou", "accuracy", "mean_dice"):
            assert 0 <= numbers[name] <= 1
        assert set(numbers["iou"]) == {"tumour", "stroma"}
        low, high = numbers["interval95"]
        assert low <= high
    assert found["conditions"]["test_time_flips"] is True
    for text in ("mIoU", "predicted gate", "oracle labels", "tumour", "stroma"):
        assert text in result.stdout


def test_settings_of_inference_have_their_prefix(evaluate, tmp_path):
    file = tmp_path / "s.toml"
    file.write_text("bootstrap = 0\n[inference]\ngate_threshold = 0.2\n")
    result = evaluate("--settings", file, "--set", "inference.gate=false", "--json", "-")
    conditions = json.loads(result.stdout)["conditions"]
    assert conditions["gate"] is False
    assert conditions["gate_threshold"] == 0.2
    for change in ("inference.gates=false", "gate=false"):
        wrong = evaluate("--set", change)
        assert wrong.exit_code == 1
        assert "gate" in wrong.stderr


def test_the_report(evaluate, tmp_path):
    args = ("--report", tmp_path / "r", "--set", "bootstrap=0", "--quiet")
    result = evaluate(*args)
    assert result.exit_code == 0, result.output
    page = tmp_path / "r" / "report.html"
    assert str(page) in result.stdout
    assert page.stat().st_size > 1000
    again = evaluate(*args)
    assert again.exit_code == 1
    assert "--overwrite" in again.stderr


def test_another_class_table_must_have_the_models_classes(evaluate, tmp_path):
    other = tmp_path / "classes.toml"
    other.write_text('[[class]]\nname = "fat"\nvalue = 1\n[[class]]\nname = "gland"\nvalue = 2\n')
    result = evaluate("--classes", other)
    assert result.exit_code == 1
    assert "fat" in result.stderr


def test_missing_folders_are_named(cli, segmenter, tmp_path):
    folders = ("--images", tmp_path / "none", "--masks", tmp_path / "none")
    result = cli("evaluate", "--model", segmenter, *folders)
    assert result.exit_code == 1
    assert "none" in result.stderr
