"""Real H&E patches; the folder is named by WSSS_DATA (default ../shared/data)."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.patches import check_trainable, cut_patches, load_patches

ROOT = Path(__file__).parents[2]
DATA = (ROOT / os.environ.get("WSSS_DATA", "../shared/data")).resolve()
pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason="no real data: set WSSS_DATA to the folder that holds it"
)


def test_named_patches_of_wsss4luad():
    patches = load_patches(DATA / "wsss4luad/named_patches")
    assert patches.format == "wsss4luad"
    assert patches.labels.astype(int).tolist() == [[0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert patches.groups == ("1003370", "436219", "436219", "449636")
    assert patches.read(0).ndim == 3


def test_cutting_some_wsss4luad_images(tmp_path):
    folder = DATA / "wsss4luad/images_and_masks"
    images = sorted((folder / "img").iterdir(), key=lambda p: p.stat().st_size)[:6]
    classes = ClassTable.from_names(["tumour", "stroma", "normal"], [0, 1, 2], ignore=[3])
    patches = cut_patches(images, folder / "mask", classes, tmp_path / "out")
    assert set(patches.groups) <= {path.stem for path in images}
    for i in range(len(patches)):
        mask = patches.read_mask(i)
        shares = [(mask == k).mean() >= 0.05 for k in range(3)]
        assert patches.labels[i].tolist() == shares


def test_crc_patches_by_table(tmp_path):
    paths = sorted((DATA / "crc").glob("*.jpg"))
    kinds = [path.name.split("___")[0] for path in paths]
    table = pd.get_dummies(pd.Series(kinds)).astype(int)
    table.insert(0, "path", [str(path) for path in paths])
    table.to_csv(tmp_path / "crc.csv", index=False)
    patches = load_patches(tmp_path / "crc.csv")
    assert len(patches.classes) == 7
    found = check_trainable(patches)
    assert set(found.classes.values()) == {10}
    assert found.sizes_px == {"224 x 224": 70}
