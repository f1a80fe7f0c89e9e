"""What the report says that patches are of."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.panels.dataset_report import _origin
from napari_wsss.patches.regions import group_patches, slide_of_region


def test_one_slide_in_regions_is_one_slide():
    rows, columns = (a.reshape(-1) for a in np.mgrid[:8, :8])
    labels = np.stack([np.arange(64) % 2 == 0, np.arange(64) % 2 == 1], axis=1)
    groups = group_patches(["Fall 1 region 2-3"] * 64, rows, columns, labels).groups
    assert {slide_of_region(group) for group in groups} == {"Fall 1 region 2-3"}
    assert _origin(groups) == f"1 slide ({len(set(groups))} regions)"


def test_other_groups_are_images():
    assert _origin(["a"]) == "1 image"
    assert _origin(["a", "b", "b"]) == "2 images"
    assert slide_of_region("the region") is None
