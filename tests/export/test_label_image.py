"""Labels written as OME-Zarr."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, OutputError
from napari_wsss.export import export_ome_zarr
from napari_wsss.slides import create_store, open_labels

CLASSES = ClassTable.from_names(["gland", "rest"], colors=["#ff0000", "#00ff00"])


@pytest.fixture
def labels():
    # Background and the second class: a mean of the two would be the first.
    return 2 * np.random.default_rng(0).integers(0, 2, (700, 1100)).astype(np.uint8)


def test_it_reads_back_with_classes_and_place(tmp_path, labels):
    path = export_ome_zarr(
        labels, tmp_path / "a.ome.zarr", CLASSES, mpp=0.5, translation_px=(3.5, 0.5)
    )
    stored = open_labels(path)
    assert stored.classes == CLASSES
    assert stored.mpp == pytest.approx(0.5)
    assert stored.translation_px == pytest.approx((3.5, 0.5))
    np.testing.assert_array_equal(stored.levels[0][:], labels)
    assert [level.shape for level in stored.levels] == [(700, 1100), (350, 550), (175, 275)]
    assert set(np.unique(stored.levels[2])) == {0, 2}, "coarse levels hold classes, not means"


def test_other_readers_open_it(tmp_path, labels):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path = export_ome_zarr(labels, tmp_path / "a.ome.zarr", CLASSES, mpp=0.5)
    (node, *_) = list(Reader(parse_url(str(path)))())
    np.testing.assert_array_equal(np.asarray(node.data[0]), labels)
    assert [axis["unit"] for axis in node.metadata["axes"]] == ["micrometer", "micrometer"]


def test_a_saved_file_can_be_saved_again_even_from_itself(tmp_path, labels):
    path = export_ome_zarr(labels, tmp_path / "a.ome.zarr", CLASSES)
    level = open_labels(path).levels[0]
    with pytest.raises(OutputError, match="exists already"):
        export_ome_zarr(level, path, CLASSES)
    export_ome_zarr(level, path, CLASSES, overwrite=True)
    np.testing.assert_array_equal(open_labels(path).levels[0][:], labels)
    assert [p.name for p in tmp_path.iterdir()] == ["a.ome.zarr"]


def test_results_and_foreign_folders_are_never_replaced(tmp_path, labels):
    result = tmp_path / "result.ome.zarr"
    create_store(result)
    (result / "run.json").write_text("{}")
    foreign = tmp_path / "foreign.zarr"
    zarr.create_group(foreign)
    for path in (result, foreign):
        with pytest.raises(OutputError, match="not replaced"):
            export_ome_zarr(labels, path, CLASSES, overwrite=True)
    assert (result / "run.json").is_file()


def test_nothing_is_left_of_labels_that_do_not_fit(tmp_path, labels):
    with pytest.raises(DataError, match="hold 9"):
        export_ome_zarr(np.full_like(labels, 9), tmp_path / "a.ome.zarr", CLASSES)
    assert not list(tmp_path.iterdir())
