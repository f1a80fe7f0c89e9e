"""``patches from-labels``."""

import json

import numpy as np
import pytest
import tifffile

from napari_wsss.classes import ClassTable
from napari_wsss.patches import LabelFile, PatchGrid, SlideLabels, SlideRecord, load_patches
from napari_wsss.slides import open_slide


@pytest.fixture
def labels(tmp_path):
    """A folder with the labels of two slides."""
    for seed, name in enumerate(("one", "two")):
        pixels = np.random.default_rng(seed).integers(0, 256, (128, 128, 3), np.uint8)
        path = tmp_path / "slides" / f"{name}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, pixels, photometric="rgb")
        with open_slide(path, mpp=0.5) as slide:
            own = SlideLabels(
                SlideRecord.of(slide),
                PatchGrid.over(slide, 16, 0.5),
                ClassTable.from_names(["tumour", "stroma"]),
            )
            with LabelFile.create(tmp_path / "labels" / f"{name}.labels.jsonl", own):
                own.assign([0, 1], 1)
                own.assign([2, 5], 2)
    return tmp_path / "labels"


def test_a_folder_of_labels_becomes_a_set(cli, labels, tmp_path):
    result = cli("patches", "from-labels", labels, "--out", tmp_path / "set", "--json", "-")
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert summary["patches"] == 8
    assert summary["classes"] == {"tumour": 4, "stroma": 4}
    assert summary["groups"] == 2
    assert summary["mpp"] == 0.5
    assert set(load_patches(tmp_path / "set").groups) == {"one", "two"}


def test_slides_that_moved_are_found_where_one_says(cli, labels, tmp_path):
    (tmp_path / "slides").rename(tmp_path / "moved")
    args = ("patches", "from-labels", labels / "one.labels.jsonl", "--out", tmp_path / "set")
    result = cli(*args)
    assert result.exit_code == 1
    assert "--slides" in result.stderr
    assert cli(*args, "--slides", tmp_path / "moved", "--groups", "slides").exit_code == 0


def test_without_labels_it_says_so(cli, tmp_path):
    result = cli("patches", "from-labels", tmp_path, "--out", tmp_path / "set")
    assert result.exit_code == 1
    assert "No labels were given" in result.stderr
