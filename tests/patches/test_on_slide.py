"""Patch sets from labels on slides."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError, OutputError, SlideError
from napari_wsss.jobs import CancelToken, Log, run_job
from napari_wsss.patches import (
    LEFT_OUT,
    LabelFile,
    PatchGrid,
    PatchReader,
    SlideLabels,
    SlideRecord,
    load_patches,
    on_slide,
    on_slide_job,
    report,
)
from napari_wsss.patches.regions import group_patches
from napari_wsss.slides import open_slide

CLASSES = ClassTable.from_names(["tumour", "stroma", "fat"])


@pytest.fixture
def label(tmp_path):
    """Write a slide, label some of its patches (cell -> code), and return slide and file."""

    def make(codes, *, name="case", seed=0, classes=CLASSES, um=16.0, mpp=0.5, size=(400, 400)):
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
        path = tmp_path / "slides" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(
            path, pixels, photometric="rgb", resolution=(1e4 / 0.5,) * 2, resolutionunit=3
        )
        slide = open_slide(path)
        labels = SlideLabels(SlideRecord.of(slide), PatchGrid.over(slide, um, mpp), classes)
        file = tmp_path / "labels" / f"{name}.labels.jsonl"
        with LabelFile.create(file, labels):
            for cell, code in codes.items():
                labels.assign([cell], code)
        return slide, file

    return make


#: Both classes all over a 12 x 12 grid.
SPREAD = {cell: 1 + (cell % 2) for cell in range(0, 144, 3)}


def test_pixels_labels_and_resolution(label, tmp_path):
    slide, file = label({5: 0b01, 17: 0b11, 30: LEFT_OUT, 31: 0b10}, mpp=1.0)
    patches = on_slide(file, tmp_path / "set")
    assert patches.classes.names == ("tumour", "stroma")
    assert patches.mpp == 1.0
    assert patches.glass == "ignore"
    assert patches.masks is None
    assert patches.labels.tolist() == [[True, False], [True, True], [False, True]]
    read = PatchReader(slide, PatchGrid.over(slide, 16, 1.0))
    for i, cell in enumerate((5, 17, 31)):
        np.testing.assert_array_equal(patches.read(i), read(cell))
    again = load_patches(tmp_path / "set")
    assert again.fingerprint == patches.fingerprint
    assert not (tmp_path / "set" / "masks").exists()


def test_several_slides_are_groups_and_classes_meet_by_name(label, tmp_path):
    other = ClassTable.from_names(["stroma", "tumour"], colors=["#000000", "#ffffff"])
    _, one = label({1: 0b01, 2: 0b10})
    _, two = label({1: 0b01, 2: 0b10, 3: 0b11}, name="second", seed=1, classes=other)
    patches = on_slide([one, two], tmp_path / "set")
    assert patches.classes.names == ("tumour", "stroma")
    assert patches.labels.astype(int).tolist() == [[1, 0], [0, 1], [0, 1], [1, 0], [1, 1]]
    assert patches.groups == ("case",) * 2 + ("second",) * 3
    assert patches.classes.classes[1].color == CLASSES.classes[1].color


def test_one_slide_is_grouped_by_regions_so_that_some_can_be_held_out(label, tmp_path):
    _, file = label(SPREAD)
    events = []
    patches = run_job(on_slide_job(file, tmp_path / "set"), events.append)
    train, held = patches.split_groups(0.15, seed=0)
    assert not set(train.groups) & set(held.groups)
    assert train.labels.any(0).all()
    assert len(held)
    assert "only one slide is labelled" in " ".join(
        e.message for e in events if isinstance(e, Log)
    )
    # Neighbours within a region stay together.
    assert 8 <= len(set(patches.groups)) < len(patches)
    assert not report(patches).errors


def test_groups_can_be_asked_for(label, tmp_path):
    _, file = label(SPREAD)
    assert set(on_slide(file, tmp_path / "a", groups="slides").groups) == {"case"}
    _, two = label(SPREAD, name="second", seed=1)
    regions = on_slide([file, two], tmp_path / "b", groups="regions").groups
    assert len(set(regions)) > 2


def test_two_slides_none_of_which_can_be_spared_fall_back_to_regions():
    slides = ["a"] * 16 + ["b"] * 16
    labels = np.zeros((32, 3), bool)
    labels[:, 2] = True
    labels[:16, 0] = labels[16:, 1] = True  # each slide holds a class of its own
    rows, columns = np.divmod(np.tile(np.arange(16), 2), 4)
    found = group_patches(slides, rows, columns, labels)
    assert found.region_side == 2
    assert len(set(found.groups)) == 8
    by_region = group_patches(["a"] * 32, rows, columns, labels)
    assert by_region.region_side is not None


def test_an_open_slide_is_used_and_needs_no_file(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    slide = open_slide(pixels, mpp=1.0, name="layer")
    labels = SlideLabels(SlideRecord.of(slide), PatchGrid.over(slide, 50, 1.0), CLASSES)
    labels.assign([0, 1], 1)
    labels.assign([2], 2)
    with pytest.raises(SlideError, match="in no file"):
        on_slide(labels, tmp_path / "set")
    patches = on_slide(labels, tmp_path / "set", slides=[slide])
    np.testing.assert_array_equal(patches.read(1), pixels[:50, 50:100])


def test_a_slide_that_moved_is_looked_for(label, tmp_path):
    slide, file = label({1: 1, 2: 2})
    slide.close()
    new = tmp_path / "elsewhere"
    slide.path.parent.rename(new)
    with pytest.raises(SlideError, match="no longer there"):
        on_slide(file, tmp_path / "set")
    assert len(on_slide(file, tmp_path / "set", slides_folder=new)) == 2


def test_a_slide_that_changed_is_refused(label, tmp_path):
    slide, file = label({1: 1, 2: 2})
    slide.close()
    tifffile.imwrite(slide.path, np.zeros((400, 400, 3), np.uint8), photometric="rgb")
    with pytest.raises(SlideError, match="has changed since it was labelled"):
        on_slide(file, tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_labels_that_do_not_fit_together_are_refused(label, tmp_path):
    slide, one = label({1: 1, 2: 2})
    _, two = label({1: 1, 2: 2}, name="second", seed=1, um=32.0)
    with pytest.raises(DataError, match=r"32 px, 0\.5 µm/px"):
        on_slide([one, two], tmp_path / "set")
    with pytest.raises(DataError, match="the same slide"):
        on_slide([one, one], tmp_path / "set")
    # Labels of earlier versions know the slide by another fingerprint.
    earlier = one.with_name(f"earlier{one.name}")
    text = one.read_text(encoding="utf-8")
    earlier.write_text(text.replace(slide.fingerprint, "0" * 64), encoding="utf-8")
    with pytest.raises(DataError, match="the same slide"):
        on_slide([one, earlier], tmp_path / "set")
    with pytest.raises(DataError, match="No labels"):
        on_slide([], tmp_path / "set")


@pytest.mark.parametrize(
    ("codes", "said"), [({}, "none is"), ({1: 4}, "only 'fat' is"), ({1: LEFT_OUT}, "none is")]
)
def test_fewer_than_two_classes_are_refused(label, tmp_path, codes, said):
    _, file = label(codes)
    with pytest.raises(DataError, match=said):
        on_slide(file, tmp_path / "set")


def test_a_class_without_patches_is_left_out_and_said(label, tmp_path):
    _, file = label({1: 1, 2: 2})
    events = []
    run_job(on_slide_job(file, tmp_path / "set"), events.append)
    assert any(isinstance(e, Log) and "fat" in e.message for e in events)


def test_an_existing_set_is_kept(label, tmp_path):
    _, file = label({1: 1, 2: 2})
    on_slide(file, tmp_path / "set")
    with pytest.raises(OutputError, match="exists"):
        on_slide(file, tmp_path / "set")
    assert len(on_slide(file, tmp_path / "set", overwrite=True, glass="tissue")) == 2


def test_cancelled_nothing_is_left(label, tmp_path):
    _, file = label(SPREAD)
    cancel = CancelToken()
    with pytest.raises(CancelledError, match="Nothing was written"):
        run_job(on_slide_job(file, tmp_path / "set", cancel=cancel), lambda _: cancel.cancel())
    assert not list(tmp_path.glob("*set*"))
