"""What is weak about a set, and what to label next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.patches import PatchSet
from napari_wsss.patches.advice import label_next, weak_classes

CLASSES = ClassTable.from_names(["tumour", "stroma", "normal"])
T, S, N, TS, SN = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1)


def patch_set(labels, groups=None):
    n = len(labels)
    return PatchSet(
        paths=tuple(Path(f"/nowhere/p{i}.png") for i in range(n)),
        names=tuple(f"p{i}" for i in range(n)),
        labels=np.array(labels, bool).reshape(n, 3),
        classes=CLASSES,
        mpp=None,
        groups=tuple(groups or (f"g{i % 5}" for i in range(n))),
        split=("train",) * n,
        glass="tissue",
        masks=None,
        root=Path("/nowhere"),
        format="table",
    )


def said(labels, groups=None):
    patches = patch_set(labels, groups)
    return [p.message for p in weak_classes(patches)], [p.message for p in label_next(patches)]


def test_nothing_is_asked_for_where_nothing_is_missing():
    assert said([T, S, N] * 12) == ([], [])


def test_a_handful_of_patches():
    weak, ask = said([T, S] * 12 + [N] * 4)
    assert weak == [
        "Class 'normal' occurs in 4 training patches only; label at least 10 so that it can be "
        "learnt."
    ]
    assert ask == ["Label next:\n  - normal: at least 6 more patches"]


def test_imbalance_asks_for_as_many_as_bring_it_into_bounds():
    weak, (ask,) = said([T] * 420 + [S] * 30 + [N] * 12)
    assert len(weak) == 1
    assert "35 times the patches of 'normal'" in weak[0]
    assert "normal: at least 9 more patches" in ask
    assert "stroma" not in ask


def test_a_class_of_one_image():
    labels = [T, S] * 12 + [N] * 12
    groups = [f"g{i % 4}" for i in range(24)] + ["lonely"] * 12
    (weak,), (ask,) = said(labels, groups)
    assert "All 12 training patches of 'normal' are from one image (lonely)" in weak
    assert "normal: patches from other images" in ask


def test_a_set_of_one_image_is_not_told_so_for_every_class():
    assert said([T, S, N] * 12, ["slide"] * 36) == ([], [])


def test_a_class_that_never_stands_alone():
    weak, (ask,) = said([T, TS, SN] * 12 + [N] * 12)
    assert weak == []
    assert ask == "Label next:\n  - stroma: patches that show it alone"


def test_what_lacks_most_comes_first_and_all_reasons_stand_together():
    _, (ask,) = said([S] * 12 + [TS] * 8 + [SN], [f"g{i % 3}" for i in range(20)] + ["g9"])
    assert ask.splitlines()[1:] == [
        "  - normal: at least 9 more patches, from other images, some that show it alone",
        "  - tumour: at least 2 more patches, some that show it alone",
    ]


@pytest.mark.parametrize("labels", [[], [T]])
def test_tiny_sets(labels):
    weak, (ask,) = said(labels)
    assert len(weak) == len(labels)
    assert "normal: at least 10 more patches" in ask
