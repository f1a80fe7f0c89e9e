"""Names, colours and splits of a loaded set, and keeping them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import cut_patches, load_patches
from napari_wsss.patches.editing import keep_edits, with_classes, with_splits


@pytest.fixture
def patches(tmp_path):
    """Eight images, each half of the first and half of the second class."""
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        mask[:, 32:] = 7
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    classes = ClassTable.from_names(["gland", "rest"], [0, 7])
    return cut_patches(
        tmp_path / "images", tmp_path / "masks", classes, tmp_path / "set",
        size_px=32, stride_px=32,
    )  # fmt: skip


def renamed(patches, names, colors=("#111111", "#222222")):
    old = patches.classes
    return ClassTable.from_names(names, [c.value for c in old.classes], colors, old.ignore)


def test_names_and_colours_are_kept_in_the_folder(patches):
    edited = with_classes(patches, renamed(patches, ["tumour", "stroma, loose"]))
    assert keep_edits(edited)
    again = load_patches(patches.root)
    assert again.classes == edited.classes
    assert again.names == patches.names
    np.testing.assert_array_equal(again.labels, patches.labels)
    assert again.read_mask(0).max() <= 1


def test_two_classes_can_swap_their_names(patches):
    edited = with_classes(patches, renamed(patches, ["rest", "gland"]))
    keep_edits(edited)
    np.testing.assert_array_equal(load_patches(patches.root).labels, edited.labels)


@pytest.mark.parametrize("names", [["path", "b"], [" a", "b"]])
def test_names_that_no_table_could_hold_are_refused(patches, names):
    with pytest.raises(DataError, match="Class names"):
        with_classes(patches, renamed(patches, names))


def test_classes_cannot_be_added_or_given_other_values(patches):
    with pytest.raises(DataError, match="2 classes"):
        with_classes(patches, ClassTable.from_names(["a", "b", "c"]))
    with pytest.raises(DataError, match="values"):
        with_classes(patches, ClassTable.from_names(["a", "b"], [1, 2]))


def test_splits_divide_no_group_and_come_back(patches):
    edited = with_splits(patches, 0.25, 0.25, seed=3)
    counts = {name: edited.split.count(name) for name in ("train", "val", "test")}
    assert counts == {"train": 16, "val": 8, "test": 8}
    for group in set(patches.groups):
        assert (
            len({s for s, g in zip(edited.split, edited.groups, strict=True) if g == group}) == 1
        )
    assert with_splits(patches, 0.25, 0.25, seed=3).split == edited.split
    assert with_splits(patches, 0.25, 0.25, seed=4).split != edited.split
    assert keep_edits(edited)
    assert load_patches(patches.root).split == edited.split


def test_a_part_of_a_set_leaves_the_rest_as_it_is(patches):
    keep_edits(with_splits(patches, 0.25))
    part = load_patches(patches.root, split="val")
    keep_edits(with_classes(part, renamed(part, ["tumour", "stroma"])))
    again = load_patches(patches.root)
    assert len(again) == len(patches)
    assert again.split.count("val") == len(part)


@pytest.mark.parametrize("shares", [(0.6, 0.4), (-0.1, 0.0)])
def test_shares_must_leave_something_to_train_on(patches, shares):
    with pytest.raises(DataError, match="together"):
        with_splits(patches, *shares)


def test_files_of_other_formats_are_never_changed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (32, 32)).save(tmp_path / name / f"{name}.png")
    patches = load_patches(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert not keep_edits(with_classes(patches, ClassTable.from_names(["x", "y"])))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_that_was_changed_meanwhile_is_not_overwritten(patches):
    table = patches.root / "labels.csv"
    table.write_text(table.read_text().replace("gland", "other"))
    with pytest.raises(DataError, match="Load it again"):
        keep_edits(patches)
