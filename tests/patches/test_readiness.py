"""What a user is told before training begins."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.patches import PatchSet
from napari_wsss.patches.readiness import FEW_PATCHES, training_problems
from napari_wsss.settings import ClassifierSettings


def patch_set(labels, groups=None, split=None) -> PatchSet:
    """Return a set of files that do not exist: no file may be opened."""
    n = len(labels)
    return PatchSet(
        paths=tuple(Path(f"/nowhere/p{i}.png") for i in range(n)),
        names=tuple(f"p{i}" for i in range(n)),
        labels=np.array(labels, bool).reshape(n, 2),
        classes=ClassTable.from_names(["tumour", "stroma"]),
        mpp=None,
        groups=groups or tuple(f"g{i}" for i in range(n)),
        split=split or ("train",) * n,
        glass="tissue",
        masks=None,
        root=Path("/nowhere"),
        format="table",
    )


def found(patches, severity, **settings):
    problems = training_problems(patches, ClassifierSettings(**settings))
    return [p.message for p in problems if p.severity == severity]


GOOD = [(1, 0), (0, 1)] * 20


def test_a_good_set_has_nothing_to_say():
    assert training_problems(patch_set(GOOD), ClassifierSettings()) == []


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "has no patches"),
        ([(1, 0)] * 20, "Only one class occurs: 'tumour'"),
        ([*GOOD, (0, 0)], "1 training patches have no class"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error(labels, text):
    assert any(text in message for message in found(patch_set(labels), "error"))


def test_errors_come_first():
    problems = training_problems(patch_set([(1, 0)] * 20), ClassifierSettings())
    order = [p.severity for p in problems]
    assert order == sorted(order, key=lambda s: s != "error")


def test_a_class_with_a_handful_of_patches():
    patches = patch_set([(1, 0)] * 40 + [(0, 1)] * 4)
    assert any(
        f"'stroma' occurs in 4 training patches only; label at least {FEW_PATCHES}" in m
        for m in found(patches, "warning")
    )


def test_nothing_to_validate_on():
    one_image = patch_set(GOOD, groups=("slide",) * len(GOOD))
    assert any("none can be held out" in m for m in found(one_image, "warning"))
    assert any(
        "last epoch will be kept" in m
        for m in found(patch_set(GOOD), "info", validation_share=0.0)
    )


def test_a_class_that_no_held_out_patch_has():
    split = ("train",) * len(GOOD) + ("val",) * 2
    patches = patch_set([*GOOD, (1, 0), (1, 0)], split=split)
    assert any("No held-out patch has stroma" in m for m in found(patches, "warning"))
    swapped = replace(patches, split=("train",) * 20 + ("val",) * 22)
    assert found(swapped, "warning") == []
