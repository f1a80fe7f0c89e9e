from __future__ import annotations

import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import load_patches


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_one_folder_per_class(tmp_path):
    _touch(tmp_path, "stroma/b.png", "tumour/a.png", "tumour/deep/c.jpg", ".hidden/d.png")
    _touch(tmp_path, "tumour/._a.png", "tumour/notes.txt")
    patches = load_patches(tmp_path)
    assert patches.format == "folders"
    assert patches.names == ("stroma/b", "tumour/a", "tumour/deep/c")
    assert patches.labels.astype(int).tolist() == [[1, 0], [0, 1], [0, 1]]
    assert patches.groups == patches.names
    assert patches.single_label.all()


def test_class_folders_below_splits(tmp_path):
    _touch(tmp_path, "train/x/1.png", "train/y/1.png", "val/x/1.png")
    patches = load_patches(tmp_path)
    assert patches.split == ("train", "train", "val")
    assert patches.names == ("train/x/1", "train/y/1", "val/x/1")
    assert len(load_patches(tmp_path, split="val")) == 1


def test_given_table_orders_and_refuses(tmp_path):
    _touch(tmp_path, "a/1.png", "b/1.png")
    patches = load_patches(tmp_path, classes=ClassTable.from_names(["b", "a", "c"]))
    assert patches.labels.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]
    with pytest.raises(DataError, match="b: not a class"):
        load_patches(tmp_path, classes=ClassTable.from_names(["a", "c"]))


def test_stray_images_and_folders_are_listed(tmp_path):
    _touch(tmp_path, "train/a/1.png", "train/b/1.png", "train/x.png", "other/y.png")
    with pytest.raises(DataError, match=r"other: neither(.|\n)*x\.png: not in a class folder"):
        load_patches(tmp_path)


def test_one_class_folder_is_not_enough(tmp_path):
    _touch(tmp_path, "a/1.png")
    with pytest.raises(DataError, match="at least two"):
        load_patches(tmp_path)


def test_unknown_folder_says_what_was_found_and_what_is_understood(tmp_path):
    _touch(tmp_path, "a.png", "b.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        load_patches(tmp_path)
    text = str(caught.value)
    assert "2 images without labels and 1 folders (empty)" in text
    for understood in ("[1 0 0 1].png", "[1101].png", "path,group,tumour,stroma", "tumour/a.png"):
        assert understood in text


def test_images_with_masks_are_pointed_to_cutting(tmp_path):
    _touch(tmp_path, "images/1.png", "masks/1.png")
    with pytest.raises(DataError, match="patches from-masks"):
        load_patches(tmp_path)


def test_ambiguous_folder_needs_a_word(tmp_path):
    _touch(tmp_path, "1-[1 0].png", "a/3.png", "b/2.png")
    (tmp_path / "labels.csv").write_text("path,a,b\na/3.png,1,0\n")
    with pytest.raises(DataError, match="named, table, folders"):
        load_patches(tmp_path)
    assert load_patches(tmp_path, format="table").names == ("a/3",)


def test_a_table_may_list_patches_in_folders(tmp_path):
    _touch(tmp_path, "slide1/3.png", "slide2/2.png")
    (tmp_path / "labels.csv").write_text("path,a,b\nslide1/3.png,1,0\nslide2/2.png,1,1\n")
    assert load_patches(tmp_path).classes.names == ("a", "b")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "holdout"}, "no split 'holdout'"),
        ({"format": "zip"}, "no format 'zip'"),
        ({"format": "napari-wsss"}, "not of the format"),
        ({"format": "table"}, "not of the format"),
        ({"split": "test"}, "no patches in the split 'test'"),
        ({"masks": "nowhere"}, "no folder of masks"),
        ({"classes": "nowhere.toml"}, "no class table"),
    ],
)
def test_wrong_arguments(tmp_path, kwargs, message):
    _touch(tmp_path, "a/1.png", "b/1.png")
    with pytest.raises(DataError, match=message):
        load_patches(tmp_path, **kwargs)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(DataError, match="no patch set"):
        load_patches(tmp_path / "none")
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match="neither a folder nor a table"):
        load_patches(tmp_path / "a.txt")


def test_masks_from_another_folder(tmp_path, write_image, write_mask):
    for name in ("a/1", "b/2"):
        write_image(tmp_path / "set" / f"{name}.png")
    write_mask(tmp_path / "masks/1.png", [[7] * 8] * 8)
    table = ClassTable.from_names(["a", "b"], values=[7, 9])
    with pytest.raises(DataError, match=r"1 of 2 patches(.|\n)*2\.png"):
        load_patches(tmp_path / "set", classes=table, masks=tmp_path / "masks")
    write_mask(tmp_path / "masks/b/2.png", [[9] * 8] * 8)
    patches = load_patches(tmp_path / "set", classes=table, masks=tmp_path / "masks")
    assert (patches.read_mask(0) == 0).all()
    assert (patches.read_mask(1) == 1).all()
