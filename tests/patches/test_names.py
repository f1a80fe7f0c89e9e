from __future__ import annotations

import pytest

from napari_wsss.patches.formats.common import name_of, normal_split
from napari_wsss.patches.names import group_of, label_text, mpp_of, parse_label

LUAD = "1031280-2300-27920-[1 0 0 1]"
BCSS = "TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101]"
WSSS4LUAD = "1003370-5631-18822-[0, 1, 0]"


@pytest.mark.parametrize(
    ("stem", "label", "group", "mpp"),
    [
        (LUAD, [1, 0, 0, 1], "1031280", None),
        (BCSS, [1, 1, 0, 1], "TCGA-A1-A0SK", 0.25),
        (WSSS4LUAD, [0, 1, 0], "1003370", None),
    ],
)
def test_the_three_released_spellings(stem, label, group, mpp):
    assert parse_label(label_text(stem)) == label
    assert group_of(stem) == group
    assert mpp_of(stem) == mpp


@pytest.mark.parametrize("text", ["", " ", "1 2 0", "1;0", "1 0 x", "1,,2", "yes no", "-1 0"])
def test_what_is_no_label_vector(text):
    assert parse_label(text) is None


@pytest.mark.parametrize("stem", ["a", "slide[1 0]x", "slide 1 0", "[1 0"])
def test_names_without_label(stem):
    assert label_text(stem) is None


@pytest.mark.parametrize("stem", ["TUM-TCGA-CLIMWGPR_104", "holiday 2", "a-b-c", "12-13"])
def test_no_group_is_guessed_from_other_names(stem):
    assert group_of(stem) is None


def test_group_of_unlabelled_validation_patches():
    assert group_of("1031280-2300-27920") == "1031280"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"train/{BCSS}.png", f"train/{BCSS}"),
        ("a\\b.png", "a/b"),
        ("../../etc/passwd.png", "etc/passwd"),
        ("/data/c.tif", "data/c"),
        ("C:\\data\\c.tif", "C/data/c"),
    ],
)
def test_names_never_lead_out_of_their_folder(path, name):
    assert name_of(path) == name


def test_spellings_of_splits():
    assert [normal_split(s) for s in ("1.training", "Valid", "TEST", "tumour")] == [
        "train",
        "val",
        "test",
        None,
    ]
