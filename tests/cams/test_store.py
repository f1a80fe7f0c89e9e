"""Pseudo masks on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from napari_wsss.cams import (
    PseudoMasks,
    generate_pseudo_masks,
)
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError


@pytest.fixture
def masks(patches, classifier, tmp_path):
    return generate_pseudo_masks(patches, classifier, tmp_path / "masks")


def test_files_are_pictures_in_the_class_colours(masks, patches):
    found = masks.targets(patches.names[1])
    with Image.open(masks.folder / "depth-1" / f"{patches.names[1]}.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((0, 0)) == patches.classes.classes[found[0, 0, 0]].rgb
    table = ClassTable.read(masks.folder / "classes.toml")
    assert [c.value for c in table.classes] == [0, 1, 2]
    assert table.ignore == (255,)


def test_a_missing_patch_is_named(masks):
    assert not masks.has("other")
    with pytest.raises(DataError, match="no pseudo mask of patch 'other'"):
        masks.targets("other")


def test_damaged_pictures_are_named(masks, patches):
    path = masks.folder / "depth-2" / f"{patches.names[0]}.png"
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    samples = [good[:n] for n in (0, 5, 40, len(good) // 2, len(good) - 20)]
    for _ in range(40):
        damaged = bytearray(good)
        damaged[int(rng.integers(0, len(good)))] ^= 1 << int(rng.integers(8))
        samples.append(bytes(damaged))
    refused = 0
    for data in samples:
        path.write_bytes(data)
        try:
            assert masks.targets(patches.names[0]).shape == (3, 48, 48)
        except DataError:
            refused += 1
    assert refused > len(samples) / 2
    Image.new("RGB", (48, 48)).save(path)
    with pytest.raises(DataError, match="one byte per pixel"):
        masks.targets(patches.names[0])


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(DataError, match="holds no pseudo masks"):
        PseudoMasks(tmp_path)
    (tmp_path / "pseudo_masks.json").write_text(json.dumps({"depths": 1, "fingerprint": "x"}))
    with pytest.raises(DataError, match="not finished"):
        PseudoMasks(tmp_path)
