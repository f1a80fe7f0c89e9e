"""Corrections: levels, areas and seal follow; whatever goes wrong leaves the old or the new."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from napari_wsss.errors import DataError, OutputError, SlideError
from napari_wsss.export import class_areas
from napari_wsss.inference import (
    SlideSegmentation,
    areas_with,
    change,
    correct_region,
    corrections_of,
    model_region,
    read_region,
    restore_region,
    segment_slide,
    verify_result,
)
from napari_wsss.inference.change import locked
from napari_wsss.jobs import Log
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_labels, open_slide
from napari_wsss.slides.downsample import halve

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def slide():
    coarse = np.random.default_rng(0).integers(0, 256, (72, 56, 3), np.uint8)
    return open_slide(coarse.repeat(16, 0).repeat(16, 1)[:1151, :889], mpp=0.5, name="a")


@pytest.fixture(scope="module")
def original(model, slide, tmp_path_factory):
    return segment_slide(slide, model, tmp_path_factory.mktemp("made"), SETTINGS).path


@pytest.fixture
def result(original, tmp_path):
    shutil.copytree(original, tmp_path / original.name)
    return SlideSegmentation.open(tmp_path / original.name)


def files(path: Path) -> dict[str, bytes]:
    found = {p.relative_to(path).as_posix(): p for p in path.rglob("*") if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if name != ".lock"}


def painted(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return labels with strips of every value, so that each histogram bin changes."""
    new = labels.copy()
    rng = np.random.default_rng(seed)
    for value in (0, 1, 2, 3):
        y, x = rng.integers(0, np.array(new.shape) // 2)
        new[y : y + 37, x : x + 53] = value
    return new


def consistent(result: SlideSegmentation) -> None:
    """Assert that levels, areas and checksums all fit the finest level."""
    levels = [level[:] for level in open_labels(result.path / "labels/segmentation").levels]
    for finer, coarser in itertools.pairwise(levels):
        np.testing.assert_array_equal(coarser, halve(finer, "mode", (255,)))
    counted = np.bincount(levels[0].reshape(-1), minlength=256)
    rows = result.summary()["classes"]
    assert [row["pixels"] for row in rows] == counted[:4].tolist()
    table = class_areas(result.labels, result.classes, mpp_labels=result.mpp).set_index("class")
    for row in rows[1:]:
        assert row["area_mm2"] == pytest.approx(table.area_mm2[row["class"]])
        assert row["share_of_tissue"] == pytest.approx(table.share_of_tissue[row["class"]])
    assert verify_result(result.path) == []


@pytest.mark.parametrize(
    "place", [(0, 0, 60, 60), (480, 301, 129, 588), (0, 0, 1151, 889), (1150, 888, 1, 1)]
)
def test_levels_areas_and_seal_follow(result, place):
    y, x, height, width = place
    whole = result.labels[:]
    before = read_region(result, *place)
    after = painted(before) if height > 1 else before % 3 + 1
    expected = areas_with(result, before, after)
    new = correct_region(result, y, x, after, when=NOON)
    whole[y : y + height, x : x + width] = after
    np.testing.assert_array_equal(new.labels[:], whole)
    assert new.summary()["classes"] == expected
    consistent(new)
    (line,) = corrections_of(new)
    assert (line.y, line.x, line.height, line.width) == place
    assert line.pixels == (after != before).sum()
    assert (line.action, line.when) == ("corrected", "2026-01-02T12:00:00+00:00")


def test_many_corrections_then_the_models_labels_again(result, original):
    was = result.labels[:]
    rng = np.random.default_rng(1)
    for seed in range(6):
        y, x = int(rng.integers(0, 900)), int(rng.integers(0, 700))
        height, width = int(rng.integers(100, 251)), int(rng.integers(100, 189))
        new = painted(read_region(result, y, x, height, width), seed)
        result = correct_region(result, y, x, new)
        consistent(result)
    assert (result.labels[:] != was).any()
    np.testing.assert_array_equal(model_region(result, 0, 0, 1151, 889), was)
    result = restore_region(result, 0, 0, 600, 500)
    np.testing.assert_array_equal(result.labels[:600, :500], was[:600, :500])
    consistent(result)
    result = restore_region(result, 0, 0, 1151, 889)
    consistent(result)
    assert corrections_of(result)[-1].action == "restored"
    assert result.summary() == SlideSegmentation.open(original).summary()
    stored, made = files(result.path), files(original)
    assert all(stored[name] == made[name] for name in made if name.startswith("labels/"))


def test_nothing_painted_writes_nothing(result, original):
    same = correct_region(result, 10, 10, read_region(result, 10, 10, 50, 50))
    assert corrections_of(same) == ()
    assert files(result.path) == files(original)


def test_what_somebody_else_corrected_meanwhile_stays(result):
    before = read_region(result, 100, 100, 64, 64)
    mine, theirs = before.copy(), before.copy()
    theirs[:32] = before[:32] % 3 + 1
    mine[40:] = before[40:] % 3 + 1
    correct_region(result, 100, 100, theirs, before=before)
    new = correct_region(result, 100, 100, mine, before=before)
    np.testing.assert_array_equal(new.labels[100:132, 100:164], theirs[:32])
    np.testing.assert_array_equal(new.labels[140:164, 100:164], mine[40:])
    consistent(new)


@pytest.mark.parametrize(
    ("place", "problem"),
    [
        ((-1, 0, 10, 10), "does not lie within"),
        ((0, 0, 10, 0), "does not lie within"),
        ((1100, 0, 60, 10), "does not lie within"),
    ],
)
def test_regions_that_do_not_fit(result, place, problem):
    with pytest.raises(DataError, match=problem):
        read_region(result, *place)
    with pytest.raises(DataError, match=problem):
        restore_region(result, *place)


def test_labels_that_do_not_fit(result, original, monkeypatch):
    zeros = np.zeros((10, 10), np.uint8)
    with pytest.raises(DataError, match=r"hold 4, 200; .* 1 to 3 are the classes a, b, c"):
        correct_region(result, 0, 0, zeros + np.array([4, 200] * 5))
    with pytest.raises(DataError, match=r"\(h, w\)"):
        correct_region(result, 0, 0, zeros[None])
    with pytest.raises(DataError, match="must be equal"):
        correct_region(result, 0, 0, zeros, before=zeros[:5])
    monkeypatch.setattr("napari_wsss.inference.corrections.MAX_REGION_PX", 40)
    with pytest.raises(DataError, match="at most 40 x 40"):
        correct_region(result, 0, 0, np.zeros((41, 10), np.uint8))
    assert files(result.path) == files(original)


def test_every_flipped_bit_is_found_after_a_correction(result):
    result = correct_region(result, 400, 400, painted(read_region(result, 400, 400, 200, 200)))
    path = result.path
    for name, content in files(path).items():
        spoilt = bytearray(content)
        spoilt[len(spoilt) // 2] ^= 1
        (path / name).write_bytes(spoilt)
        try:
            problems = verify_result(path)
        except SlideError as error:  # run.json is no JSON any more
            problems = [f"run.json: {error}"]
        assert len(problems) == 1
        assert problems[0].startswith(name)
        (path / name).write_bytes(content)
    assert verify_result(path) == []


@pytest.mark.parametrize("name", ["labels/segmentation/0/c/0/0", "checksums.json", "run.json"])
def test_damage_is_not_sealed_as_good(result, name):
    file = result.path / name
    if name == "run.json":
        file.write_text(file.read_text().replace('"pixels": ', '"pixels": 1'))
    else:
        spoilt = bytearray(file.read_bytes())
        spoilt[len(spoilt) // 2] ^= 1
        file.write_bytes(spoilt)
    now = files(result.path)
    with pytest.raises(SlideError, match="damaged"):
        correct_region(result, 0, 0, np.ones((20, 20), np.uint8))
    assert files(result.path) == now


def test_damage_elsewhere_is_found_later(result):
    (result.path / "0/c/1/1").write_bytes(b"spoilt")
    correct_region(result, 0, 0, painted(read_region(result, 0, 0, 99, 99)))
    assert verify_result(result.path) == ["0/c/1/1: altered"]


# -- others at work, full disks, kill -9 -----------------------------------------------------


def test_two_at_once(result, original):
    with locked(result.path), pytest.raises(OutputError, match="Another process"):
        correct_region(result, 0, 0, np.ones((20, 20), np.uint8))
    assert files(result.path) == files(original)


def test_a_folder_that_may_not_be_written(result, original, monkeypatch):
    def refuse(self, *args, **options):
        raise PermissionError(errno.EACCES, "Permission denied", str(result.path / ".lock"))

    monkeypatch.setattr(change.FileLock, "acquire", refuse)
    with pytest.raises(OutputError, match="no permission"):
        correct_region(result, 0, 0, np.ones((20, 20), np.uint8))
    assert SlideSegmentation.open(result.path).labels.shape == (1151, 889)
    assert verify_result(result.path) == []
    assert files(result.path) == files(original)


@pytest.mark.parametrize(
    ("code", "message"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written")]
)
@pytest.mark.parametrize("after", [0, 3])
def test_a_disk_that_refuses(result, original, monkeypatch, code, message, after):
    synced = os.fsync
    done = []

    def refuse(descriptor):
        done.append(descriptor)
        if len(done) > after:
            raise OSError(code, os.strerror(code))
        synced(descriptor)

    monkeypatch.setattr(change.os, "fsync", refuse)
    with pytest.raises(OutputError, match=message):
        correct_region(result, 0, 0, painted(read_region(result, 0, 0, 900, 800)))
    assert files(result.path) == files(original)


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_killed_at_every_change_of_the_disk(result, tmp_path, kill_at):
    """Opened again, the result is the old or the new, whole, and can be corrected further."""
    labels = painted(read_region(result, 450, 300, 200, 400))
    old = files(result.path)
    counted = tmp_path / "counted" / result.path.name
    shutil.copytree(result.path, counted)

    def killed(path: Path, moment: int | None) -> int:
        def correct() -> None:
            correct_region(SlideSegmentation.open(path), 450, 300, labels, when=NOON)

        return kill_at(correct, path.with_suffix(".count"), moment)

    total = killed(counted, None)
    new = files(counted)
    assert total > 12
    seen = []
    for moment in range(total):
        path = tmp_path / str(moment) / result.path.name
        shutil.copytree(result.path, path)
        assert killed(path, moment) == -signal.SIGKILL
        opened = SlideSegmentation.open(path)
        left = {n: b for n, b in files(path).items() if not n.startswith(".change.new")}
        assert left in (old, new), moment
        assert verify_result(path) == []
        seen.append(left == new)
        again = correct_region(opened, 450, 300, labels, when=NOON)
        np.testing.assert_array_equal(again.labels[450:650, 300:700], labels)
        assert files(path) == new
    assert seen == sorted(seen)  # the old before the one decisive rename, the new after it
    assert {*seen} == {False, True}


# -- runs over the same slide ------------------------------------------------------------------


def test_a_run_leaves_corrections_alone_unless_told_otherwise(result, model, slide, original):
    new = correct_region(result, 0, 0, painted(read_region(result, 0, 0, 300, 300)))
    corrected, said = files(new.path), []
    segment_slide(slide, model, new.path.parent, SETTINGS, on_event=said.append)
    assert any("finished already" in e.message for e in said if isinstance(e, Log))
    assert files(new.path) == corrected
    segment_slide(slide, model, new.path.parent, SETTINGS, overwrite=True)
    assert files(new.path) == files(original)
