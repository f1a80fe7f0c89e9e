from __future__ import annotations

import numpy as np
import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import load_patches

LUAD = ["1031280-2300-27920-[1 0 0 1].png", "1031280-9-9-[0 1 0 0].png", "77-1-2-[1 1 1 0].png"]
BCSS = [
    "TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png",
    "TCGA-A1-A0SK-DX1_xmin1_ymin2_MPP-0.2500+12[0010].png",
    "TCGA-B2-A0T3-DX1_xmin1_ymin2_MPP-0.2500+1[1000].png",
]
WSSS4LUAD = ["1003370-5631-18822-[0, 1, 0].png", "436219-7159-48057-[1, 0, 0].png"]


def _touch(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_luad_train_opens_no_file(tmp_path):
    _touch(tmp_path / "train", LUAD)
    patches = load_patches(tmp_path)
    assert patches.format == "luad-histoseg"
    assert patches.classes.names[1] == "necrosis"
    assert patches.classes.ignore == (4,)
    assert patches.names[0] == "train/1031280-2300-27920-[1 0 0 1]"
    assert patches.labels.astype(int).tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [1, 1, 1, 0]]
    assert patches.groups == ("1031280", "1031280", "77")
    assert (patches.mpp, patches.glass, patches.masks) == (None, "ignore", None)
    assert patches.single_label.tolist() == [False, True, False]


def test_bcss_gives_resolution_patients_and_glass(tmp_path):
    _touch(tmp_path, BCSS)
    patches = load_patches(tmp_path)
    assert patches.format == "bcss-wsss"
    assert patches.classes.names == ("tumour", "stroma", "lymphocyte", "necrosis")
    assert patches.mpp == 0.25
    assert patches.glass == "tissue"
    assert set(patches.groups) == {"TCGA-A1-A0SK", "TCGA-B2-A0T3"}


def test_wsss4luad_comma_and_space(tmp_path):
    _touch(tmp_path / "1.training", WSSS4LUAD)
    patches = load_patches(tmp_path)
    assert patches.format == "wsss4luad"
    assert patches.labels.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_validation_labels_come_from_masks_at_patch_level(tmp_path, write_image, write_mask):
    _touch(tmp_path / "train", LUAD)
    values = np.full((20, 20), 4)
    values[:10] = 0
    values[10, :19] = 2  # 4.75 % of all pixels: not present
    values[11:12, :] = 3  # 5 %: present
    write_image(tmp_path / "val/img/5-6-7.png", height=20, width=20)
    write_mask(tmp_path / "val/mask/5-6-7.png", values)
    patches = load_patches(tmp_path)
    assert patches.split == ("train", "train", "train", "val")
    val = patches.of_split("val")
    assert val.labels.astype(int).tolist() == [[1, 0, 0, 1]]
    mask = val.read_mask(0)
    assert mask[0, 0] == 0
    assert mask[10, 0] == 2
    assert mask[19, 19] == 255
    assert patches.masks is not None
    assert patches.masks[0] is None


def test_masks_are_not_opened_for_the_training_split(tmp_path, write_image):
    _touch(tmp_path / "train", LUAD)
    write_image(tmp_path / "val/img/5-6-7.png")
    (tmp_path / "val/mask").mkdir()
    for name in ("5-6-7.png", "8-9-9.png"):
        (tmp_path / "val/mask" / name).write_bytes(b"damaged")
        (tmp_path / "val/img" / name).touch()
    assert len(load_patches(tmp_path, split="train")) == 3
    with pytest.raises(DataError, match=r"2 of 2 masks(.|\n)*5-6-7(.|\n)*8-9-9"):
        load_patches(tmp_path)


def test_every_offending_label_is_listed(tmp_path):
    _touch(tmp_path, [*LUAD, "8-1-1-[1 0 0].png", "8-1-2-[1 0 2 0].png", "8-1-3.png"])
    with pytest.raises(DataError) as caught:
        load_patches(tmp_path)
    text = str(caught.value)
    assert "3 of 6" in text
    assert "8-1-1-[1 0 0].png: 3 labels for 4 classes" in text
    assert "8-1-2-[1 0 2 0].png: [1 0 2 0] is not" in text
    assert "8-1-3.png: no label vector" in text


def test_unknown_classes_are_asked_for_and_toml_overrides(tmp_path):
    _touch(tmp_path, ["a-[1 0].png", "b-[0 1].png"])
    with pytest.raises(DataError, match=r"length 2(.|\n)*classes\.toml"):
        load_patches(tmp_path)
    ClassTable.from_names(["gland", "rest"]).write(tmp_path / "classes.toml")
    patches = load_patches(tmp_path)
    assert patches.format == "named"
    assert patches.classes.names == ("gland", "rest")
    other = ClassTable.from_names(["x", "y"])
    assert load_patches(tmp_path, classes=other).classes.names == ("x", "y")


def test_classes_of_another_length_name_every_patch(tmp_path):
    _touch(tmp_path, LUAD)
    with pytest.raises(DataError, match="3 of 3 patches") as caught:
        load_patches(tmp_path, classes=ClassTable.from_names(["x", "y"]))
    assert all(name in str(caught.value) for name in LUAD)


def test_mixed_resolutions_are_refused_unless_overruled(tmp_path):
    _touch(tmp_path, [*BCSS, BCSS[0].replace("0.2500", "0.5000")])
    with pytest.raises(DataError, match=r"0\.25 to 0\.5"):
        load_patches(tmp_path)
    assert load_patches(tmp_path, mpp=0.25).mpp == 0.25


def test_same_name_in_two_formats_is_listed(tmp_path):
    _touch(tmp_path, [*LUAD, LUAD[0].replace(".png", ".jpg")])
    with pytest.raises(DataError, match="stands for 2 patches"):
        load_patches(tmp_path)


def test_images_beside_split_folders_are_refused(tmp_path):
    _touch(tmp_path / "train", LUAD)
    _touch(tmp_path, LUAD[:1])
    with pytest.raises(DataError, match="beside the folders train"):
        load_patches(tmp_path)


def test_preset_can_be_forced(tmp_path):
    _touch(tmp_path, ["odd-[1 0 0 1].png"])
    assert load_patches(tmp_path, format="bcss-wsss").classes.names[2] == "lymphocyte"


@pytest.mark.parametrize("mpp", [0.0, float("nan"), 1e6, -1.0])
def test_impossible_resolutions_are_refused(tmp_path, mpp):
    _touch(tmp_path, LUAD)
    with pytest.raises(DataError, match="µm/px"):
        load_patches(tmp_path, mpp=mpp)
