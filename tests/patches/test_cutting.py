from __future__ import annotations

import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError, OutputError
from napari_wsss.jobs import CancelToken, Log, Progress, run_job
from napari_wsss.patches import CutRules, cut_patches, cut_patches_job, load_patches
from napari_wsss.patches.windows import window_origins

CLASSES = ClassTable.from_names(["tumour", "stroma"], values=[7, 200], ignore=[3])
SMALL = {"size_px": 16, "stride_px": 8}
RULES = CutRules(**SMALL)


@pytest.fixture
def source(tmp_path, write_image, write_mask):
    """Two images of 40 x 30 px: the left half is tumour, a corner is glass."""
    values = np.full((30, 40), 200)
    values[:, :20] = 7
    values[:12, 28:] = 3
    for i, name in enumerate(["one", "sub/two"]):
        write_image(tmp_path / f"img/{name}.png", seed=i, height=30, width=40)
        write_mask(tmp_path / f"mask/{name}.png", values)
    return tmp_path


def cut(source, **changes):
    return cut_patches(
        source / "img", source / "mask", CLASSES, source / "out", **{**SMALL, **changes}
    )


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_windows_cover_the_image_and_stay_inside(height, width, size, stride):
    covered = np.zeros((height, width), int)
    origins = list(window_origins((height, width), size, stride))
    assert len(set(origins)) == len(origins)
    for y, x in origins:
        assert covered[y : y + size, x : x + size].shape == (size, size)
        covered[y : y + size, x : x + size] += 1
    if min(height, width) < size:
        assert not origins
    elif stride <= size:
        assert covered.min() >= 1


def test_patches_are_windows_of_their_image(source):
    patches = cut(source, mpp=0.5)
    assert (patches.format, patches.mpp, patches.glass) == ("napari-wsss", 0.5, "ignore")
    assert set(patches.groups) == {"one", "sub/two"}
    assert len(patches) == 2 * 4 * 3
    image = np.array(Image.open(source / "img/sub/two.png"))
    values = np.array(Image.open(source / "mask/sub/two.png"))
    i = patches.names.index("sub__two_y00014_x00024")
    window = np.s_[14:30, 24:40]
    np.testing.assert_array_equal(patches.read(i), image[window])
    np.testing.assert_array_equal(patches.read_mask(i), CLASSES.to_indices(values[window]))
    np.testing.assert_array_equal(patches.read_mask(i, source / "out/masks"), patches.read_mask(i))


def test_labels_are_the_classes_that_cover_the_share_of_all_pixels(source):
    patches = cut(source, min_share=0.25)
    for i in range(len(patches)):
        mask = patches.read_mask(i)
        expected = [(mask == k).sum() / mask.size >= 0.25 for k in range(2)]
        assert patches.labels[i].tolist() == expected


def test_windows_without_class_are_skipped_and_counted(source, write_mask):
    write_mask(source / "mask/one.png", np.full((30, 40), 3))
    patches = cut(source)
    header = tomllib.loads((source / "out/dataset.toml").read_text())
    assert len(patches) == 12
    assert header["counts"]["patches"] == 12
    assert header["counts"]["skipped_without_class"] == 12


def test_mostly_ignored_windows_can_be_left_out(source):
    patches = cut(source, max_ignored=0.3)
    assert len(patches) < 24
    assert all((patches.read_mask(i) == 255).mean() <= 0.3 for i in range(len(patches)))


def test_small_images_are_reported_and_skipped(source, write_image, write_mask):
    write_image(source / "img/tiny.png", height=15, width=99)
    write_mask(source / "mask/tiny.png", np.full((15, 99), 7))
    events = []
    patches = run_job(
        cut_patches_job(source / "img", source / "mask", CLASSES, source / "out", RULES),
        events.append,
    )
    assert len(patches) == 24
    warnings = [e.message for e in events if isinstance(e, Log) and e.level == "warning"]
    assert len(warnings) == 1
    assert "99 x 15 px" in warnings[0]
    assert Progress("cut", 3, 3) in events


def test_unlisted_values_are_ignored_and_reported(source, write_mask):
    values = np.full((30, 40), 7)
    values[0, :5] = 9
    write_mask(source / "mask/one.png", values)
    events = []
    job = cut_patches_job(source / "img", source / "mask", CLASSES, source / "out", RULES)
    patches = run_job(job, events.append)
    text = next(e.message for e in events if isinstance(e, Log) and e.level == "warning")
    assert "9 (5 px), in 1 images" in text
    assert "one" in text
    assert patches.read_mask(patches.names.index("one_y00000_x00000"))[0, 0] == 255
    header = tomllib.loads((source / "out/dataset.toml").read_text())
    assert header["unlisted_mask_values"] == {"one": {"9": 5}}


def test_everything_wrong_is_listed_before_anything_is_written(source, write_image, write_mask):
    write_image(source / "img/alone.png")
    write_mask(source / "mask/lonely.png", np.zeros((4, 4)))
    write_image(source / "img/odd.png", height=30, width=40)
    write_mask(source / "mask/odd.png", np.full((30, 39), 7))
    write_image(source / "img/colour.png", height=30, width=40)
    write_image(source / "mask/colour.png", height=30, width=40)
    (source / "img/cut.png").write_bytes((source / "img/one.png").read_bytes()[:700])
    write_mask(source / "mask/cut.png", np.full((30, 40), 7))
    write_image(source / "img/wide.png", height=30, width=40)
    Image.fromarray(np.full((30, 40), 300, np.uint16)).save(source / "mask/wide.png")
    with pytest.raises(DataError) as caught:
        cut(source)
    text = str(caught.value)
    for expected in (
        "alone.png: no mask",
        "lonely.png: no image",
        "odd.png: the mask has 39 x 30 px, its image 40 x 30",
        "colour.png: this mask is a colour picture",
        "cut.png: the image is damaged",
        "300 to 300",
    ):
        assert expected in text
    assert sorted(p.name for p in source.iterdir()) == ["img", "mask"]


def test_existing_output_is_kept_unless_it_is_ours_and_may_go(source):
    cut(source)
    before = load_patches(source / "out").fingerprint
    with pytest.raises(OutputError, match="exists"):
        cut(source)
    assert load_patches(source / "out").fingerprint == before
    assert len(cut(source, overwrite=True, stride_px=16)) < 24
    assert sorted(p.name for p in source.iterdir()) == ["img", "mask", "out"]


def test_a_folder_of_the_users_is_never_replaced(source):
    (source / "out").mkdir()
    (source / "out/thesis.doc").touch()
    with pytest.raises(OutputError, match="not written by napari-wsss"):
        cut(source, overwrite=True)
    assert (source / "out/thesis.doc").exists()


@pytest.mark.parametrize("place", ["img", "img/out", "."])
def test_output_must_not_overlap_the_input(source, place):
    with pytest.raises(OutputError, match="overlap"):
        cut_patches(source / "img", source / "mask", CLASSES, source / place, **SMALL)


@pytest.mark.parametrize("stage", ["check", "cut"])
def test_cancelling_leaves_nothing(source, stage):
    cancel = CancelToken()
    job = cut_patches_job(
        source / "img", source / "mask", CLASSES, source / "out", RULES, cancel=cancel
    )

    def stop(event):
        if isinstance(event, Progress) and event.stage == stage:
            cancel.cancel()

    with pytest.raises(CancelledError):
        run_job(job, stop)
    assert sorted(p.name for p in source.iterdir()) == ["img", "mask"]


def test_a_closed_job_keeps_the_old_set(source):
    before = cut(source).fingerprint
    job = cut_patches_job(
        source / "img",
        source / "mask",
        CLASSES,
        source / "out",
        CutRules(size_px=20),
        overwrite=True,
    )
    for event in job:
        if isinstance(event, Progress) and event.stage == "cut":
            break
    job.close()
    assert load_patches(source / "out").fingerprint == before
    assert sorted(p.name for p in source.iterdir()) == ["img", "mask", "out"]


def test_a_full_disk_is_told_and_leaves_nothing(source, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="full"):
        cut(source)
    assert sorted(p.name for p in source.iterdir()) == ["img", "mask"]


def test_splits_by_image(source):
    patches = cut(source, split={"one": "train", "sub/two": "val"})
    assert set(patches.of_split("val").groups) == {"sub/two"}
    assert len(patches.train()) == 12


def test_chosen_files_instead_of_folders(source):
    patches = cut_patches(
        [source / "img/one.png"], source / "mask", CLASSES, source / "out", **SMALL
    )
    assert set(patches.groups) == {"one"}


def test_same_input_gives_the_same_bytes(source):
    cut(source)
    other = cut_patches(source / "img", source / "mask", CLASSES, source / "again", **SMALL)
    for path in sorted((source / "out").rglob("*.*")):
        twin = source / "again" / path.relative_to(source / "out")
        assert path.read_bytes() == twin.read_bytes()
    assert other.fingerprint == load_patches(source / "out").fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size_px": 4, "stride_px": 0}, r"size_px = 4(.|\n)*stride_px = 0"),
        ({"min_share": 1.5, "max_ignored": -1}, r"min_share = 1\.5(.|\n)*max_ignored = -1"),
        ({"mpp": float("nan")}, "mpp = nan"),
        ({"glass": "white"}, "glass = 'white'"),
        ({"split": "later"}, "later"),
        ({"split": {"one": "train"}}, "no split is given for(.|\n)*sub/two"),
        ({"size_px": 500}, "2 images are too small"),
    ],
)
def test_wrong_settings(source, changes, message):
    with pytest.raises(DataError, match=message):
        cut(source, **changes)
    assert not (source / "out").exists()


def test_class_tables_that_cannot_be_cut_with(source):
    for table, message in (
        (ClassTable.from_names(["a", "b"]), "no mask values"),
        (ClassTable.from_names(["group", "b"], values=[0, 1]), "'group'"),
    ):
        with pytest.raises(DataError, match=message):
            cut_patches(source / "img", source / "mask", table, source / "out", **SMALL)


def test_missing_and_empty_folders(source):
    with pytest.raises(DataError, match="no folder"):
        cut_patches(source / "none", source / "mask", CLASSES, source / "out")
    (source / "void").mkdir()
    with pytest.raises(DataError, match="no images"):
        cut_patches(source / "void", source / "void", CLASSES, source / "out")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("dataset.toml", "format = 'other'", "not written by"),
        ("dataset.toml", "format = 'napari-wsss'\nversion = 2", "version 2"),
        ("dataset.toml", "format = 'napari-wsss'\nversion = 1\nmpp = 'fine'", "not a number"),
        ("dataset.toml", "format = 'napari-wsss'\nversion = 1\nglass = 'x'", "glass 'x'"),
        ("dataset.toml", "format = ", "cannot be read"),
        ("classes.toml", "class = 3", r"no \[\[class\]\]"),
        ("labels.csv", "path,a,b\n", "do not fit the classes"),
    ],
)
def test_damaged_sets_are_refused(source, name, text, message):
    cut(source)
    (source / "out" / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_patches(source / "out")


def test_missing_files_of_a_set_are_listed(source):
    cut(source)
    gone = sorted((source / "out/images").iterdir())[:2]
    for path in gone:
        path.unlink()
    with pytest.raises(DataError) as caught:
        load_patches(source / "out")
    assert all(path.name in str(caught.value) for path in gone)


def test_masks_show_the_class_colours(source):
    cut(source)
    mask = Image.open(source / "out/masks/one_y00000_x00000.png")
    assert mask.convert("RGB").getpixel((0, 0)) == CLASSES.classes[0].rgb
