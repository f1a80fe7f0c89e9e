"""Labels of the patches of a slide: grid, undo and redo, the file that keeps them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.patches import (
    LEFT_OUT,
    LabelFile,
    PatchGrid,
    PatchReader,
    SlideLabels,
    SlideRecord,
    label_files,
    open_in_folder,
    read_labels,
)
from napari_wsss.patches.slide_labels import patches_per_minute
from napari_wsss.slides import TissueMask, open_slide

CLASSES = ClassTable.from_names(["tumour", "stroma", "fat"])


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (200, 330, 3), np.uint8)


@pytest.fixture
def slide(pixels):
    return open_slide(pixels, mpp=0.5, name="case")


@pytest.fixture
def grid(slide):
    return PatchGrid.over(slide, patch_um=32, mpp=0.5)


@pytest.fixture
def labels(slide, grid):
    return SlideLabels(SlideRecord.of(slide), grid, CLASSES)


# -- grid -----------------------------------------------------------------------------


def test_grid_holds_whole_patches_of_the_slide_pixel_for_pixel(slide, grid, pixels):
    assert (grid.rows, grid.columns, grid.size_px) == (3, 5, 64)
    read = PatchReader(slide, grid)
    for cell in range(len(grid)):
        row, column = divmod(cell, 5)
        own = pixels[row * 64 : row * 64 + 64, column * 64 : column * 64 + 64]
        np.testing.assert_array_equal(read(cell), own)


def test_grid_at_a_coarser_resolution_steps_in_slide_pixels(slide):
    grid = PatchGrid.over(slide, patch_um=60, mpp=1.5)
    assert grid.size_px == 40
    assert grid.step_px == pytest.approx((120, 120))
    assert (grid.rows, grid.columns) == (1, 2)
    assert PatchReader(slide, grid)(1).shape == (40, 40, 3)


def test_cell_at_a_point_and_beside_the_grid(grid):
    assert grid.cell_at(0, 0) == 0
    assert grid.cell_at(63.9, 64) == 1
    assert grid.cell_at(191, 319) == 14
    assert grid.cell_at(192, 0) is None
    assert grid.cell_at(-0.1, 0) is None


def test_tissue_share_is_exact_where_mask_and_patches_do_not_align(grid):
    rng = np.random.default_rng(1)
    mask = rng.random((20, 33)) > 0.5
    share = grid.tissue_share(TissueMask(mask, 10.0))
    fine = np.kron(mask, np.ones((10, 10)))
    own = fine[:192, :320].reshape(3, 64, 5, 64).mean((1, 3))
    np.testing.assert_allclose(share, own, atol=1e-6)


@pytest.mark.parametrize(("um", "message"), [(1, "side of 2 px"), (5000, "8192"), (120, "fits")])
def test_patches_that_are_not_possible_are_refused(slide, um, message):
    with pytest.raises(DataError, match=message):
        PatchGrid.over(slide, patch_um=um, mpp=0.5)


# -- labels ---------------------------------------------------------------------------


def test_several_classes_and_leaving_out(labels):
    labels.toggle(3, 0)
    labels.toggle(3, 2)
    labels.assign([4, 5], LEFT_OUT)
    assert labels.labels_of([3, 4]).tolist() == [[True, False, True], [False] * 3]
    assert labels.labelled.tolist() == [3]
    assert labels.decided.tolist() == [3, 4, 5]
    labels.toggle(4, 1)  # a class ends being left out
    assert labels.codes[4] == 2
    assert labels.counts().tolist() == [1, 1, 1]
    labels.toggle(3, 0)
    labels.toggle(3, 2)
    assert labels.labelled.tolist() == [4]
    assert labels.times[3] == 0


def test_undo_and_redo_of_a_stroke_bring_labels_and_times_back(labels):
    labels.assign([1], 1)
    before = labels.times[1]
    labels.assign([1, 2], 2)
    labels.assign([3], 2, join=True)
    after = labels.codes.copy()
    assert labels.undo().tolist() == [1, 2, 3]
    assert labels.codes[:5].tolist() == [0, 1, 0, 0, 0]
    assert labels.times[1] == before
    assert labels.redo().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(labels.codes, after)
    labels.undo()
    labels.assign([9], 4)
    assert not labels.can_redo
    labels.undo()
    labels.undo()
    assert not labels.can_undo
    assert not labels.codes.any()
    assert labels.undo().size == 0


def test_assigning_what_is_there_changes_nothing(labels):
    labels.assign([1, 2], 1)
    assert labels.assign([1, 2, 2], 1).size == 0
    labels.undo()
    assert not labels.codes.any()


@pytest.mark.parametrize("code", [8, -1, LEFT_OUT + 1])
def test_codes_of_no_class_are_refused(labels, code):
    with pytest.raises(DataError, match="none of these 3 classes"):
        labels.assign([0], code)


def test_removing_a_class_moves_the_labels_of_those_behind_it(labels):
    labels.assign([0], 0b100)
    labels.assign([1], 0b101)
    labels.assign([2], LEFT_OUT)
    with pytest.raises(DataError, match="2 patches are labelled 'fat'"):
        labels.remove_class(2)
    labels.remove_class(1)
    assert labels.classes.names == ("tumour", "fat")
    assert labels.codes[:3].tolist() == [0b10, 0b11, LEFT_OUT]
    assert not labels.can_undo
    labels.assign([1], 0b10)
    with pytest.raises(DataError, match="At least two"):
        labels.remove_class(0)


def test_a_new_class_gets_a_colour_of_its_own(labels):
    labels.add_class("ink")
    colors = [c.color for c in labels.classes.classes]
    assert len(set(colors)) == 4
    with pytest.raises(DataError, match="occurs twice"):
        labels.add_class("ink")
    with pytest.raises(DataError, match="split"):
        labels.add_class("split")
    assert labels.classes.names == (*CLASSES.names, "ink")


def test_pace_leaves_pauses_out():
    assert patches_per_minute(np.array([5.0])) is None
    assert patches_per_minute(np.linspace(0, 0.5, 40)) is None, "too short to say"
    assert patches_per_minute(np.array([0, 2, 4, 6, 1000, 1002.0])) == pytest.approx(30)


# -- the file -------------------------------------------------------------------------


def test_every_change_is_in_the_file_at_once(labels, tmp_path):
    path = tmp_path / "a.labels.jsonl"
    with LabelFile.create(path, labels):
        for change in (
            lambda: labels.assign([1, 2, 7], 0b11),
            lambda: labels.toggle(2, 2),
            lambda: labels.assign([3], LEFT_OUT),
            labels.undo,
            labels.redo,
            lambda: labels.add_class("ink"),
            lambda: labels.assign([7], 0),
        ):
            change()
            stored = read_labels(path)
            np.testing.assert_array_equal(stored.codes, labels.codes)
            np.testing.assert_allclose(stored.times, labels.times, atol=1e-3)
            assert stored.classes == labels.classes
            assert (stored.slide, stored.grid) == (labels.slide, labels.grid)
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) == 1 + 3  # tidied up: a line per patch
    assert json.loads(lines[1]).keys() == {"row", "column", "labels", "at"}


def test_a_line_that_was_cut_off_costs_only_itself(labels, tmp_path):
    path = tmp_path / "a.labels.jsonl"
    with LabelFile.create(path, labels):
        labels.assign([1], 1)
        labels.assign([2], 2)
        data = path.read_bytes()
    for end in range(data.rindex(b"{") + 1, len(data)):
        path.write_bytes(data[:end])
        assert read_labels(path).codes[:4].tolist() == [0, 1, 0, 0]
    with LabelFile.open(path) as file:
        file.labels.assign([3], 4)
    assert read_labels(path).codes[:4].tolist() == [0, 1, 0, 4]


def test_two_windows_cannot_label_the_same_file(labels, tmp_path):
    path = tmp_path / "a.labels.jsonl"
    file = LabelFile.create(path, labels)
    with pytest.raises(OutputError, match="another window"):
        LabelFile.open(path)
    file.close()
    file.close()
    LabelFile.open(path).close()


def test_an_existing_file_is_not_begun_anew(labels, tmp_path):
    path = tmp_path / "a.labels.jsonl"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        LabelFile.create(path, labels)
    assert path.read_text() == "mine"


def test_a_file_that_was_removed_comes_back_whole(labels, tmp_path):
    path = tmp_path / "a.labels.jsonl"
    with LabelFile.create(path, labels):
        labels.assign([1], 1)
        path.unlink()
        labels.assign([2], 2)
        assert read_labels(path).codes[:3].tolist() == [0, 1, 2]


def test_what_could_not_be_written_is_written_with_the_next_change(labels, tmp_path, monkeypatch):
    path = tmp_path / "a.labels.jsonl"
    with LabelFile.create(path, labels):
        with monkeypatch.context() as m:
            m.setattr(Path, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(OutputError, match="full"):
                labels.assign([1], 1)
        labels.assign([2], 2)
        assert read_labels(path).codes[:3].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "line",
    [
        '{"row": 3, "column": 0, "labels": [], "at": "2026-01-01T00:00:00+00:00"}',
        '{"row": 0, "column": 0, "labels": ["bone"], "at": "2026-01-01T00:00:00+00:00"}',
        '{"row": 0, "column": 0, "labels": ["fat"], "at": "noon"}',
        "[]",
        "rubbish",
    ],
)
def test_damaged_lines_are_named(labels, tmp_path, line):
    path = tmp_path / "a.labels.jsonl"
    LabelFile.create(path, labels).close()
    path.write_text(path.read_text("utf-8") + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_labels(path)


@pytest.mark.parametrize("text", ["", "{}\n", '{"format": "other"}\n', "x"])
def test_foreign_files_are_refused(tmp_path, text):
    path = tmp_path / "a.labels.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match="not a file of slide labels"):
        read_labels(path)


# -- the folder -----------------------------------------------------------------------


def test_a_slide_finds_its_labels_where_it_moved(labels, slide, grid, tmp_path):
    record = SlideRecord(**{**vars(labels.slide), "path": tmp_path / "old.tif"})
    file, notes = open_in_folder(tmp_path, record, grid, CLASSES)
    assert notes == ()
    file.labels.assign([1], 1)
    file.close()
    moved = SlideRecord(**{**vars(record), "path": tmp_path / "new.tif"})
    file, notes = open_in_folder(tmp_path, moved, grid, CLASSES)
    assert file.labels.codes[1] == 1
    assert "old.tif" in notes[0]
    file.close()
    assert read_labels(file.path).slide.path == tmp_path / "new.tif"


def test_a_slide_that_changed_keeps_its_old_labels_apart(labels, grid, tmp_path):
    record = SlideRecord(**{**vars(labels.slide), "path": tmp_path / "a.tif"})
    file, _ = open_in_folder(tmp_path, record, grid, CLASSES)
    file.labels.assign([1], 1)
    file.close()
    changed = SlideRecord(**{**vars(record), "fingerprint": "other"})
    file, notes = open_in_folder(tmp_path, changed, grid, CLASSES)
    file.close()
    assert "has changed" in notes[0]
    assert not file.labels.codes.any()
    assert len(label_files(tmp_path)) == 2


def test_the_next_slide_gets_the_classes_of_the_last(labels, grid, tmp_path):
    file, _ = open_in_folder(tmp_path, labels.slide, grid, CLASSES)
    file.labels.rename_class(0, "cancer")
    file.labels.recolor_class(1, "#123456")
    file.close()
    second = SlideRecord(**{**vars(labels.slide), "fingerprint": "other", "name": "second"})
    file, _ = open_in_folder(tmp_path, second, grid, CLASSES)
    file.close()
    assert file.labels.classes.names == ("cancer", "stroma", "fat")
    assert file.labels.classes.classes[1].color == "#123456"


def test_another_size_of_patches_is_another_file(labels, slide, grid, tmp_path):
    small = PatchGrid.over(slide, patch_um=16, mpp=0.5)
    for own in (grid, small):
        open_in_folder(tmp_path, labels.slide, own, CLASSES).file.close()
    assert [path.name for path in label_files(tmp_path)] == [
        "case 16um 32px.labels.jsonl",
        "case 32um 64px.labels.jsonl",
    ]


def test_a_foreign_file_in_the_folder_is_passed_over_and_said(labels, grid, tmp_path):
    (tmp_path / "x.labels.jsonl").write_text("x")
    file, notes = open_in_folder(tmp_path, labels.slide, grid, CLASSES)
    file.close()
    assert "Passed over" in notes[0]
