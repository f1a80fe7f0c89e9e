from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError
from napari_wsss.jobs import CancelToken, run_job
from napari_wsss.patches import check_trainable, load_patches, report, report_job

ROWS = [
    ("p0", "g0", "train", 1, 0, 0),
    ("p1", "g0", "train", 1, 1, 0),
    ("p2", "g1", "train", 0, 1, 0),
    ("p3", "g1", "train", 0, 0, 1),
    ("p4", "g2", "val", 0, 1, 0),
    ("p5", "g2", "val", 0, 0, 0),
]


@pytest.fixture
def build(tmp_path, write_image):
    """Write a table of patches and load it."""

    def load(rows=ROWS, **kwargs):
        lines = ["path,group,split,a,b,c"]
        for i, (name, *rest) in enumerate(rows):
            path = tmp_path / f"{name}.png"
            if not path.exists():
                write_image(path, seed=i, height=8 + i % 2)
            lines.append(",".join(map(str, (f"{name}.png", *rest))))
        (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
        return load_patches(tmp_path, **kwargs)

    return load


def _messages(found, severity):
    return [p.message for p in found.problems if p.severity == severity]


def test_counts(build):
    found = report(build(mpp=0.5))
    assert found.n_patches == 6
    assert found.n_groups == 3
    assert found.mpp == 0.5
    assert found.classes == {"a": 2, "b": 3, "c": 1}
    assert found.combinations == {"b": 2, "a": 1, "a + b": 1, "c": 1, "(none)": 1}
    assert found.splits == {"train": 4, "val": 2}
    assert found.split_classes["val"] == {"a": 0, "b": 1, "c": 0}
    assert found.sizes_px == {"8 x 8": 3, "8 x 9": 3}
    assert found.imbalance == 3
    assert found.single_label == 4
    assert 0 < found.glass_share < 1
    assert found.errors == ()
    assert json.loads(json.dumps(found.to_dict()))["classes"]["b"] == 3
    for text in ("6 patches in 3 groups", "0.5 µm/px", "a + b", "warning: Class 'c' occurs in 1"):
        assert text in found.to_text()


def test_a_set_without_weakness_has_no_problems(build):
    rows = [(f"p{i}", f"g{i % 4}", "train", *(j == i % 3 for j in range(3))) for i in range(36)]
    rows = [(*row[:3], *map(int, row[3:])) for row in rows]
    found = report(build(rows), deep=False)
    assert found.problems == ()
    assert "No problems found." in found.to_text()


def test_a_sound_set_may_be_trained_on(build):
    assert check_trainable(build()).errors == ()


def test_every_unreadable_patch_is_listed(build, tmp_path):
    patches = build()
    whole = (tmp_path / "p0.png").read_bytes()
    (tmp_path / "p0.png").write_bytes(whole[:120])
    (tmp_path / "p3.png").write_bytes(b"")
    found = report(patches)
    assert [("p0" in e, "p3" in e) for e in found.unreadable] == [(True, False), (False, True)]
    with pytest.raises(DataError, match=r"2 patches cannot be read(.|\n)*p0\.png(.|\n)*p3\.png"):
        check_trainable(patches)
    assert len(report(patches, deep=False).unreadable) == 1


def test_duplicates_within_a_split_are_warnings(build, tmp_path):
    build()
    shutil.copy(tmp_path / "p0.png", tmp_path / "p2.png")
    found = report(build())
    assert found.duplicates == (("p0", "p2"),)
    assert any("1 images occur with different labels" in m for m in _messages(found, "warning"))
    rows = [(n, g, s, 1, 0, 0) if n == "p2" else (n, g, s, *r) for n, g, s, *r in ROWS]
    assert any("occur several times" in m for m in _messages(report(build(rows)), "warning"))


def test_duplicates_across_splits_are_errors(build, tmp_path):
    patches = build()
    shutil.copy(tmp_path / "p1.png", tmp_path / "p4.png")
    with pytest.raises(DataError, match=r"1 images are in several splits(.|\n)*p1 = p4"):
        check_trainable(patches)


def test_groups_across_splits_are_errors_where_the_user_gave_them(build):
    rows = [(n, "g1" if n == "p4" else g, *r) for n, g, *r in ROWS]
    with pytest.raises(DataError, match=r"1 groups(.|\n)*g1 \(train, val\)"):
        check_trainable(build(rows))


def test_groups_guessed_from_released_names_only_warn(tmp_path, write_image, write_mask):
    for i, label in enumerate(["1 0 0 0", "0 1 0 0", "0 0 1 0", "0 0 0 1"]):
        write_image(tmp_path / f"train/12-1-{i}-[{label}].png", seed=i)
    write_image(tmp_path / "val/img/12-5-5.png", seed=9)
    write_mask(tmp_path / "val/mask/12-5-5.png", [[0] * 8] * 8)
    found = check_trainable(load_patches(tmp_path))
    assert any("12 (train, val)" in m for m in _messages(found, "warning"))


def test_all_label_faults_are_listed_together(build):
    rows = [("p0", "g0", "train", 1, 0, 0), ("p1", "g0", "train", 0, 0, 0)]
    with pytest.raises(DataError) as caught:
        check_trainable(build(rows))
    text = str(caught.value)
    for expected in (
        "Class 'b' occurs in no training patch",
        "Class 'c' occurs in no training patch",
        "Only one class occurs: 'a'",
        "1 training patches have no class",
        "p1",
    ):
        assert expected in text


def test_a_set_without_training_patches(build):
    with pytest.raises(DataError, match="no patches to train on"):
        check_trainable(build(split="val"))


def test_classes_that_never_stand_alone_are_named(build):
    rows = [*ROWS, ("p6", "g3", "train", 0, 1, 0)]
    rows[3] = ("p3", "g1", "train", 1, 0, 1)
    together = [m for m in _messages(report(build(rows)), "warning") if "together" in m]
    assert len(together) == 1
    assert "'c' occurs only together with 'a'" in together[0]


def test_rare_classes_are_named(build):
    rows = [("p0", "g0", "train", 0, 0, 1), ("p1", "g0", "train", 1, 0, 0)]
    rows += [(f"q{i}", "g0", "train", 0, 1, 0) for i in range(30)]
    messages = _messages(report(build(rows), deep=False), "warning")
    assert any("30 times the patches of 'a'" in m for m in messages)
    assert any("'a' occurs in 1 training patch only" in m for m in messages)


def test_masks_are_checked_too(tmp_path, write_image, write_mask):
    lines = ["path,mask,a,b"]
    for i, values in enumerate([[[0] * 8] * 8, [[9] * 8] * 8, [[1] * 7] * 8]):
        write_image(tmp_path / f"{i}.png", seed=i)
        write_mask(tmp_path / f"m{i}.png", values)
        lines.append(f"{i}.png,m{i}.png,{i % 2},1")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    table = ClassTable.from_names(["a", "b"], values=[0, 1])
    found = report(load_patches(tmp_path, classes=table))
    assert "m2.png: the mask has 7 x 8 px" in found.unreadable[0]
    assert any("9 (64 px), in 1 masks" in m for m in _messages(found, "warning"))


def test_scan_reports_progress_and_can_be_cancelled(build):
    cancel = CancelToken()
    events = []
    run_job(report_job(build(), cancel=cancel), events.append)
    assert events[-1].done == events[-1].total == 6
    cancel.cancel()
    with pytest.raises(CancelledError):
        run_job(report_job(build(), cancel=cancel))


def test_bright_share(tmp_path):
    from PIL import Image

    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:3] = 255
    for i in range(2):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_text("path,a,b\n0.png,1,0\n1.png,0,1\n")
    assert report(load_patches(tmp_path / "t.csv")).glass_share == pytest.approx(0.3)
