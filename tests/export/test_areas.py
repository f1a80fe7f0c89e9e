import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, MissingResolutionError, OutputError
from napari_wsss.export import class_areas, export_csv

CLASSES = ClassTable.from_names(["tumour", "stroma"])
LABELS = np.array([[1, 1, 1, 2], [0, 0, 0, 255]], np.uint8)


def test_hand_computed_areas():
    table = class_areas(LABELS, CLASSES, level0_scale=4, mpp_labels=2.0).set_index("class")
    assert table["label"].to_dict() == {
        "tumour": 1,
        "stroma": 2,
        "background": 0,
        "not computed": 255,
    }
    assert table["pixels"].tolist() == [3, 1, 3, 1]
    assert table["area_px"].tolist() == [48, 16, 48, 16]
    assert table["area_mm2"].tolist() == pytest.approx([12e-6, 4e-6, 12e-6, 4e-6])
    assert table["share_of_tissue"][:2].tolist() == [0.75, 0.25]
    assert table["share_of_tissue"][2:].isna().all()


def test_unequal_axes_multiply():
    table = class_areas(LABELS, CLASSES, level0_scale=(2, 3), mpp_labels=(0.5, 0.25))
    assert table["area_px"][0] == 18
    assert table["area_mm2"][0] == pytest.approx(3 * 0.125e-6)


@settings(max_examples=30, deadline=None)
@given(
    labels=arrays(
        np.uint8,
        st.tuples(st.integers(1, 20), st.integers(1, 20)),
        elements=st.sampled_from([0, 1, 2, 255]),
    ),
    block_px=st.integers(1, 9),
)
def test_pixels_sum_to_the_image_whatever_the_blocks(labels, block_px):
    table = class_areas(labels, CLASSES, block_px=block_px)
    assert table["pixels"].sum() == labels.size
    pd.testing.assert_frame_equal(table, class_areas(labels, CLASSES))


def test_areas_equal_those_of_the_polygons():
    from napari_wsss.export import polygons_from_labels

    labels = np.random.default_rng(0).integers(0, 3, (40, 50)).astype(np.uint8)
    found = np.zeros(2)
    for region in polygons_from_labels(labels, 2, block_px=16):
        found[region.class_index] += region.polygon.area
    assert class_areas(labels, CLASSES)["pixels"][:2].tolist() == found.tolist()


def test_csv_reads_back_and_leaves_the_unknown_empty(tmp_path):
    path = tmp_path / "deep" / "areas.csv"
    table = export_csv(LABELS, path, CLASSES, level0_scale=2)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "class,label,pixels,area_px,area_mm2,share_of_tissue"
    assert lines[1] == "tumour,1,3,12.0,,0.75"
    pd.testing.assert_frame_equal(pd.read_csv(path), table)


def test_slide_without_tissue_has_no_shares():
    table = class_areas(np.zeros((3, 3), np.uint8), CLASSES, mpp_labels=1.0)
    assert table["share_of_tissue"].isna().all()
    assert table["pixels"].tolist() == [0, 0, 9, 0]


@pytest.mark.parametrize("mpp", [0, -1.0, float("nan"), float("inf"), (0.5, 0)])
def test_impossible_resolution_is_refused(tmp_path, mpp):
    with pytest.raises(MissingResolutionError, match="µm/px"):
        export_csv(LABELS, tmp_path / "a.csv", CLASSES, mpp_labels=mpp)
    assert list(tmp_path.iterdir()) == []


def test_bad_labels_and_scale_are_refused():
    with pytest.raises(DataError, match="hold 7"):
        class_areas(np.full((2, 2), 7, np.uint8), CLASSES)
    with pytest.raises(DataError, match="scale"):
        class_areas(LABELS, CLASSES, level0_scale=-1)


def test_existing_file_is_kept_unless_told_otherwise(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists"):
        export_csv(LABELS, path, CLASSES)
    assert path.read_text() == "mine"
    export_csv(LABELS, path, CLASSES, overwrite=True)
    assert path.read_text().startswith("class,")
