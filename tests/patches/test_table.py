from __future__ import annotations

import pandas as pd
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import load_patches

CSV = (
    "path,group,split,tumour,stroma\n"
    "a.png,s1,train,1,0\n"
    "sub/b.png,s1,,1,1\n"
    "sub/c.png,,validation,0,1\n"
)


@pytest.fixture
def folder(tmp_path, write_image):
    for name in ("a.png", "sub/b.png", "sub/c.png"):
        write_image(tmp_path / name)
    return tmp_path


def _check(patches):
    assert patches.format == "table"
    assert patches.names == ("a", "sub/b", "sub/c")
    assert patches.classes.names == ("tumour", "stroma")
    assert patches.labels.astype(int).tolist() == [[1, 0], [1, 1], [0, 1]]
    assert patches.split == ("train", "train", "val")
    assert patches.groups == ("s1", "s1", "sub/c")
    assert patches.read(1).shape == (8, 8, 3)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", CSV),
        ("t.tsv", CSV.replace(",", "\t")),
        ("t.csv", CSV.replace(",", ";")),
        ("t.csv", "\ufeff" + CSV.replace("\n", "\r\n")),
        ("t.csv", CSV.replace(",1", ",True").replace(",0", ",0.0").replace("/", "\\")),
    ],
    ids=["comma", "tab", "semicolon", "excel", "booleans and backslashes"],
)
def test_spellings_of_tables(folder, name, text):
    (folder / name).write_text(text, encoding="utf-8")
    _check(load_patches(folder / name))


def test_parquet_with_booleans_and_missing_cells(folder):
    pd.DataFrame(
        {
            "path": ["a.png", "sub/b.png", "sub/c.png"],
            "group": ["s1", "s1", None],
            "split": ["train", None, "val"],
            "tumour": [True, True, False],
            "stroma": [0.0, 1.0, 1.0],
        }
    ).to_parquet(folder / "t.parquet")
    _check(load_patches(folder / "t.parquet"))


def test_folder_with_labels_csv(folder):
    (folder / "labels.csv").write_text(CSV)
    _check(load_patches(folder))
    assert load_patches(folder, split="val").names == ("sub/c",)


def test_everything_wrong_is_listed_with_its_row(folder):
    (folder / "t.csv").write_text(
        "path,split,tumour,stroma\n"
        "a.png,train,1,2\n"
        "none.png,train,yes,0\n"
        "a.png,later,1,\n"
        ",train,1,0\n"
    )
    with pytest.raises(DataError) as caught:
        load_patches(folder / "t.csv")
    text = str(caught.value)
    for expected in (
        "row 2, column 'stroma': '2'",
        "row 3, column 'tumour': 'yes'",
        "row 4, column 'stroma': ''",
        "none.png",
        "row 4: split 'later'",
        "row 4: 'a' stands in row 2 already",
        "row 5: the path is empty",
    ):
        assert expected in text


def test_columns_must_be_the_classes(folder):
    (folder / "t.csv").write_text(CSV)
    ClassTable.from_names(["tumour", "necrosis"]).write(folder / "classes.toml")
    with pytest.raises(DataError, match=r"'stroma' is no class(.|\n)*'necrosis' has no column"):
        load_patches(folder / "t.csv")


def test_order_of_classes_is_the_class_tables(folder):
    (folder / "t.csv").write_text(CSV)
    patches = load_patches(folder / "t.csv", classes=ClassTable.from_names(["stroma", "tumour"]))
    assert patches.labels[0].tolist() == [False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("file,tumour,stroma\na.png,1,0\n", "no column 'path'"),
        ("path,tumour\na.png,1\n", "1 class columns"),
        ("path,tumour,tumour\na.png,1,0\n", "'tumour' occurs 2 times"),
        (",path,tumour,stroma\n0,a.png,1,0\n", "column 1 has no name"),
        ("path,tumour,stroma\na.png,1,0,0,0\n", "cannot be read"),
        ("path,tumour,stroma\n", "no patches"),
        ("path,mpp,tumour,stroma\na.png,fine,1,0\n", "mpp 'fine'"),
    ],
)
def test_unusable_tables(folder, text, message):
    (folder / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load_patches(folder / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_bytes_that_are_no_table(folder, name):
    (folder / name).write_bytes(b"\xff\xfe\x00PAR1" + bytes(range(256)))
    with pytest.raises(DataError, match=name):
        load_patches(folder / name)


def test_resolution_and_masks_from_columns(folder, write_mask):
    write_mask(folder / "m.png", [[3] * 8] * 8)
    (folder / "t.csv").write_text(
        "path,mpp,mask,tumour,stroma\na.png,0.5,m.png,1,0\nsub/b.png,0.50,,0,1\n"
    )
    table = ClassTable.from_names(["tumour", "stroma"], values=[3, 5], ignore=[0])
    patches = load_patches(folder / "t.csv", classes=table)
    assert patches.mpp == 0.5
    assert patches.glass == "ignore"
    assert (patches.read_mask(0) == 0).all()
    with pytest.raises(DataError, match=r"'sub/b' of .* has no mask"):
        patches.read_mask(1)


def test_absolute_paths_may_lie_anywhere(tmp_path, write_image):
    image = write_image(tmp_path / "elsewhere/x.png")
    (tmp_path / "t").mkdir()
    (tmp_path / "t/t.csv").write_text(f"path,a,b\n{image},1,0\n../elsewhere/x.png,0,1\n")
    patches = load_patches(tmp_path / "t/t.csv")
    assert patches.paths[0] == image
    assert not any(n.startswith("/") or ".." in n for n in patches.names)
