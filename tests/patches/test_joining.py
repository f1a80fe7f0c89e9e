"""Patch sets that are put together, and those that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import PatchSet, joined

CLASSES = ClassTable.from_names(["a", "b"], values=[0, 1])


def a_set(name: str, n: int, **changes) -> PatchSet:
    root = Path(name)
    patches = PatchSet(
        paths=tuple(root / f"{name}{i}.png" for i in range(n)),
        names=tuple(f"{name}{i}" for i in range(n)),
        labels=np.eye(2, dtype=bool)[np.arange(n) % 2],
        classes=CLASSES,
        mpp=0.5,
        groups=tuple(f"slide {name}" for _ in range(n)),
        split=("train",) * n,
        glass="ignore",
        masks=None,
        root=root,
        format="table",
    )
    return replace(patches, **changes)


def test_all_patches_in_order():
    masks = (Path("m0.png"), None)
    whole = joined(a_set("x", 3), a_set("y", 2, masks=masks), a_set("z", 1, mpp=0.504))
    assert whole.names == ("x0", "x1", "x2", "y0", "y1", "z0")
    assert whole.labels.tolist() == [[1, 0], [0, 1], [1, 0], [1, 0], [0, 1], [1, 0]]
    assert whole.groups == ("slide x",) * 3 + ("slide y",) * 2 + ("slide z",)
    assert whole.masks == (None, None, None, *masks, None)
    assert (whole.mpp, whole.root) == (0.5, Path("x"))
    assert joined(a_set("x", 3)).names == ("x0", "x1", "x2")


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"classes": ClassTable.from_names(["b", "a"], values=[0, 1])}, "the classes b, a"),
        ({"mpp": 0.52}, "0.52 µm/px, x 0.5"),
        ({"mpp": None}, "unknown µm/px"),
        ({"names": ("x1", "y")}, "both have: x1"),
        (
            {
                "classes": ClassTable.from_names(["a", "b"], values=[1, 2]),
                "masks": (None, Path("m.png")),
            },
            "masks have other values",
        ),
    ],
)
def test_sets_that_do_not_fit(changes, problem):
    with pytest.raises(DataError, match=problem):
        joined(a_set("x", 3), a_set("y", 2, **changes))
