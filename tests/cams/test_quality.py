"""Measuring pseudo masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.cams import (
    PseudoMasks,
    pseudo_mask_quality,
)
from napari_wsss.cams.masks import agreement
from napari_wsss.cams.store import PseudoMaskWriter, write_record
from napari_wsss.classes import ClassTable
from napari_wsss.patches import PatchSet


def test_quality_by_hand(tmp_path):
    """Two patches of 2 x 2 px, two depths; every number counted on paper."""
    classes = ClassTable.from_names(["a", "b"], values=[10, 20], ignore=[30])
    root = tmp_path / "set"
    (root / "masks").mkdir(parents=True)
    truth = {"one": [[10, 10], [20, 30]], "two": [[10, 10], [10, 10]]}
    for name, values in truth.items():
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(root / f"{name}.png")
        Image.fromarray(np.array(values, np.uint8)).save(root / f"masks/{name}.png")
    patches = PatchSet(
        paths=tuple(root / f"{n}.png" for n in truth),
        names=tuple(truth),
        labels=np.array([[1, 1], [1, 0]], bool),
        classes=classes,
        mpp=None,
        groups=tuple(truth),
        split=("train", "train"),
        glass="ignore",
        masks=tuple(root / f"masks/{n}.png" for n in truth),
        root=root,
        format="table",
    )
    writer = PseudoMaskWriter(tmp_path / "p", classes, 2)
    one = np.array([[[0, 1], [1, 0]], [[0, 0], [0, 0]]], np.uint8)
    two = np.array([[[0, 255], [0, 0]], [[0, 255], [0, 0]]], np.uint8)
    for name, found in (("one", one), ("two", two)):
        writer.write(name, found, agreement(found))
    classes.with_index_values().write(tmp_path / "p/classes.toml")
    write_record(tmp_path / "p", {"complete": True, "fingerprint": "f", "depths": 2})
    quality = pseudo_mask_quality(PseudoMasks(tmp_path / "p"), patches)
    # Depth 1: of 'one', a right, a called b, b right; of 'two' three right. IoU 4/5 and 1/2.
    # Depth 2: a, a right, b called a. IoU 5/6 and 0.
    assert quality["depths"][0]["miou"] == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert quality["depths"][1]["miou"] == pytest.approx((5 / 6 + 0) / 2)
    assert quality["depths"][0]["miou_multi_label"] == pytest.approx(1 / 2)
    assert quality["depths"][1]["miou_multi_label"] == pytest.approx(1 / 3)
    # Seven pixels have a class, six are kept; depths agree on the first of 'one' and on 'two'.
    assert quality["kept_share"] == pytest.approx(6 / 7)
    assert quality["kept_share_multi_label"] == pytest.approx(3 / 3)
    assert quality["agreeing"]["share"] == pytest.approx(4 / 6)
    assert quality["agreeing"]["miou"] == pytest.approx(1.0)
    assert (quality["multi_label_patches"], quality["patches"]) == (1, 2)
