"""Classes from what masks hold."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.errors import DataError
from napari_wsss.jobs import run_job
from napari_wsss.patches.mask_values import classes_of_values, mask_values_job


def save(path, values):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path)


def test_values_are_counted_over_all_masks(tmp_path):
    save(tmp_path / "a.png", [[0, 0], [0, 255]])
    save(tmp_path / "sub" / "b.png", [[7, 255], [0, 0]])
    assert run_job(mask_values_job(tmp_path)) == {0: 5, 7: 1, 255: 2}


def test_every_damaged_mask_is_named(tmp_path):
    save(tmp_path / "a.png", [[0, 1]])
    for name in ("b.png", "c.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"(?s)2 of 3 masks.*b\.png.*c\.png"):
        run_job(mask_values_job(tmp_path))


@pytest.mark.parametrize("name", [".", "missing"])
def test_a_folder_without_masks_is_said(tmp_path, name):
    with pytest.raises(DataError, match=r"no masks|no folder"):
        run_job(mask_values_job(tmp_path / name))


def test_each_value_becomes_a_class_to_be_named():
    table = classes_of_values({0: 10, 255: 3})
    assert table.names == ("value 0", "value 255")
    assert [c.value for c in table.classes] == [0, 255]


@pytest.mark.parametrize("count", [1, 256])
def test_masks_of_objects_are_no_masks_of_classes(count):
    with pytest.raises(DataError, match="different values"):
        classes_of_values(dict.fromkeys(range(count), 1))
