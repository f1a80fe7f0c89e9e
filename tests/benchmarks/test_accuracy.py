"""The accuracy benchmark: rows, folds, wrong labels, and what is not made twice."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.patches import load_patches

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
accuracy = pytest.importorskip("accuracy")
from accuracy_rows import ROWS, SETS, DataSet  # noqa: E402
from accuracy_table import Results, put_into, render  # noqa: E402


@pytest.mark.parametrize("data", SETS.values(), ids=list(SETS))
@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_valid_and_has_the_budget_of_the_set(row, data):
    found = ROWS[row].settings(data, seed=3)
    for phase in (found.classifier, found.segmenter):
        assert (phase.epochs, phase.steps_per_epoch) == (data.epochs, data.steps_per_epoch)
        assert phase.seed == 3


@pytest.fixture
def data(tmp_path):
    """Nine images of two classes, the rare one in three of them."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for i in range(9):
        mask = np.zeros((24, 24 + 4 * i), np.uint8)
        if i % 3 == 0:
            mask[:12] = 1
        Image.fromarray(np.full((*mask.shape, 3), 100, np.uint8)).save(
            tmp_path / f"images/{i}.png"
        )
        Image.fromarray(mask).save(tmp_path / f"masks/{i}.png")
    classes = ClassTable.from_names(["often", "rare"], [0, 1])
    return DataSet("images", "masks", classes, 24, 2, 2), tmp_path


def test_folds_hold_every_image_once_and_the_rare_class_each(data):
    spec, root = data
    folds = accuracy.folds_of(spec, root)
    names = [path.name for fold in folds for path in fold]
    assert sorted(names) == sorted(path.name for path in (root / "images").iterdir())
    rare = [{"0.png", "3.png", "6.png"} & {p.name for p in fold} for fold in folds]
    assert sorted(map(len, rare)) == [1, 2]
    assert folds == accuracy.folds_of(spec, root)


def test_an_earlier_stage_counts_if_what_is_new_has_its_default():
    there = {"epochs": 8, "pda": {"enabled": True}}
    defaults = {"epochs": 12, "pda": {"enabled": True, "mu": 1.0}, "teacher": {"decay": 0.0}}
    wanted = {"epochs": 8, "pda": {"enabled": True, "mu": 1.0}, "teacher": {"decay": 0.0}}
    assert accuracy._same(there, wanted, defaults)
    assert not accuracy._same(there, {**wanted, "teacher": {"decay": 0.9}}, defaults)
    assert not accuracy._same(there, {**wanted, "epochs": 12}, defaults)
    assert not accuracy._same({**there, "gone": 1}, wanted, defaults)


def test_a_measurement_is_known_by_what_differs_from_the_defaults(tmp_path):
    lines = ["path,a,b"]
    for i in range(4):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,1,{i % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    patches = load_patches(tmp_path / "labels.csv")
    keys = (
        "mlps",
        "mlps-no-gate",
        "mlps-published-gate",
        "mlps-flips",
        "gce",
        "full",
        "true-1",
        "cam",
    )
    glas = SETS["glas"]
    out = tmp_path / "out"
    marks = [accuracy.Stages(out, patches, ROWS[key], glas, 0).mark() for key in keys]
    assert len(set(marks)) == len(keys)
    again = accuracy.Stages(tmp_path / "elsewhere", patches, ROWS["mlps"], glas, 0)
    assert again.mark() == marks[0]
    assert accuracy.Stages(out, patches, ROWS["mlps"], glas, 1).mark() != marks[0]
    elsewhere = accuracy.Stages(out, patches, ROWS["mlps"], glas, 0, tested="other images")
    assert elsewhere.mark() != marks[0]


def test_other_images_in_the_same_place_are_noticed(tmp_path):
    glas = SETS["glas"]
    for part in (glas.images, glas.masks):
        (tmp_path / part).mkdir(parents=True)
        Image.new("L", (16, 16)).save(tmp_path / part / "a.png")
    before = accuracy.listing(glas, tmp_path)
    assert accuracy.listing(glas, tmp_path) == before
    Image.new("L", (99, 64), 7).save(tmp_path / glas.images / "a.png")
    assert accuracy.listing(glas, tmp_path) != before


def test_flipped_labels_leave_every_patch_one(tmp_path):
    lines = ["path,a,b"]
    for i in range(200):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{i:03d}.png")
        lines.append(f"{i:03d}.png,1,{i % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    patches = load_patches(tmp_path / "labels.csv")
    found = accuracy.flipped(patches, 0.1, seed=0)
    changed = (found.labels != patches.labels).mean()
    assert 0.03 < changed < 0.12
    assert found.labels.any(1).all()
    assert accuracy.flipped(patches, 0.0, seed=0) is patches
    assert replace(found, labels=patches.labels).fingerprint == patches.fingerprint


def test_two_processes_keep_each_others_results_and_the_table_is_put_in(tmp_path):
    first = Results.read(tmp_path / "r.json")
    second = Results.read(tmp_path / "r.json")
    counts = [[90, 10, 0, 20, 80, 0]] * 3
    entry = {
        "mark": "m",
        "patches": 1,
        "seconds": {"segmenter": {"wall": 1.0, "processor": 60.0}},
        "counts": {"predicted_gate": counts, "oracle_labels": counts},
    }
    first.put("glas/0/0/full", entry)
    second.put("glas/0/0/mlps", entry)
    both = Results.read(tmp_path / "r.json")
    assert set(both.entries) == {"glas/0/0/full", "glas/0/0/mlps"}
    assert both.get("glas/0/0/full", "other") is None
    iou = (90 / 120 + 80 / 110) / 2
    assert both.miou(["glas/0/0/full"]) == pytest.approx(iou)
    table = render(both)
    assert f"**{100 * iou:.1f}**" in table
    assert "| +0.0 to +0.0 |" in table  # mlps less full, which are the same here
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\nearlier\n<!-- end of results -->\nafter\n")
    put_into(page, table)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert table in text
    assert "earlier" not in text
