from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.patches import PatchSet

CLASSES = ClassTable.from_names(["a", "b", "c"], values=[10, 20, 30], ignore=[0])


def make(labels, groups=None, root=Path("set"), **changes):
    labels = np.asarray(labels, bool)
    names = tuple(f"x/{i}" for i in range(len(labels)))
    patches = PatchSet(
        paths=tuple(root / f"{name}.png" for name in names),
        names=names,
        labels=labels,
        classes=CLASSES,
        mpp=None,
        groups=tuple(groups) if groups is not None else names,
        split=("train",) * len(labels),
        glass="ignore",
        masks=None,
        root=root,
        format="table",
    )
    return replace(patches, **changes)


def test_everything_that_does_not_fit_is_listed():
    with pytest.raises(DataError) as caught:
        make(
            [[1, 0, 0], [0, 1, 0]],
            classes=ClassTable.from_names(["a", "b"]),
            names=("z", "z"),
            masks=(None,),
            split=("train", "later"),
            glass="white",
            mpp=1e6,
        )
    for text in ("(2, 3)", "'z' stands for 2", "masks: 1", "'later'", "'white'", "1000000.0"):
        assert text in str(caught.value)


def test_labels_cannot_be_changed_by_accident():
    patches = make([[1, 0, 0], [0, 1, 1]])
    with pytest.raises(ValueError, match="read-only"):
        patches.labels[0, 0] = False


def test_subset_by_mask_and_by_index_keeps_columns_together():
    patches = make([[1, 0, 0], [0, 1, 1], [0, 0, 1]], masks=(Path("m0"), None, Path("m2")))
    for chosen in ([2, 0], np.array([2, 0])):
        part = patches.subset(chosen)
        assert part.names == ("x/2", "x/0")
        assert part.masks == (Path("m2"), Path("m0"))
        assert part.labels.tolist() == patches.labels[[2, 0]].tolist()
    assert patches.subset(patches.single_label).names == ("x/0", "x/2")
    assert patches.subset([]).labels.shape == (0, 3)


def test_unknown_split_is_an_error_and_an_empty_one_is_not():
    patches = make([[1, 0, 0]])
    assert len(patches.of_split("val")) == 0
    with pytest.raises(DataError, match="holdout"):
        patches.of_split("holdout")


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=4, max_size=60),
    st.floats(0.05, 0.6),
    st.integers(0, 5),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_split_never_divides_a_group_nor_loses_a_class(rows, share, seed):
    labels = [[code & 1, code >> 1 & 1, code >> 2 & 1] for code, _ in rows]
    patches = make(labels, [f"g{group}" for _, group in rows])
    try:
        train, val = patches.split_groups(share, seed)
    except DataError:
        # Right only if every group is the last to hold some class, or there is but one.
        for group in set(patches.groups):
            rest = patches.labels[np.array(patches.groups) != group]
            assert not len(rest) or (rest.any(0) != patches.labels.any(0)).any()
        return
    assert not set(train.groups) & set(val.groups)
    assert sorted(train.names + val.names) == sorted(patches.names)
    assert len(val) > 0
    assert (train.labels.any(0) == patches.labels.any(0)).all()
    assert set(train.split) == {"train"}
    assert set(val.split) == {"val"}
    again = patches.split_groups(share, seed)
    assert (again[0].names, again[1].names) == (train.names, val.names)


def test_split_meets_the_share_of_every_class():
    rng = np.random.default_rng(0)
    labels = rng.random((600, 3)) < [0.7, 0.3, 0.08]
    patches = make(labels, [f"g{i // 10}" for i in range(600)])
    _, val = patches.split_groups(0.2, seed=1)
    shares = val.labels.sum(0) / patches.labels.sum(0)
    np.testing.assert_allclose(shares, 0.2, atol=0.03)
    assert patches.split_groups(0.2, seed=2)[1].names != val.names


def test_split_of_nothing_and_of_what_cannot_be_split():
    patches = make([[1, 0, 0], [0, 1, 1]])
    assert len(patches.split_groups(0, 0)[1]) == 0
    with pytest.raises(DataError, match=r"occur in one group only: a, b, c"):
        patches.split_groups(0.5, 0)
    with pytest.raises(DataError, match="1 group"):
        make([[1, 0, 0], [0, 1, 1]], ["g", "g"]).split_groups(0.5, 0)
    with pytest.raises(DataError, match="below 1"):
        patches.split_groups(1.0, 0)


def test_fingerprint_follows_names_labels_classes_and_sizes(tmp_path, write_image):
    patches = make([[1, 0, 0], [0, 1, 1]], root=tmp_path)
    for i, path in enumerate(patches.paths):
        write_image(path, seed=i)
    first = patches.fingerprint
    assert make([[1, 0, 0], [0, 1, 1]], root=tmp_path).fingerprint == first
    assert make([[1, 0, 0], [0, 1, 0]], root=tmp_path).fingerprint != first
    assert patches.subset([1, 0]).fingerprint != first
    other = ClassTable.from_names(["a", "b", "z"], values=[10, 20, 30], ignore=[0])
    assert replace(patches, classes=other).fingerprint != first
    write_image(patches.paths[0], height=9)
    assert make([[1, 0, 0], [0, 1, 1]], root=tmp_path).fingerprint != first


def test_masks_become_indices_and_must_have_the_patch_size(tmp_path, write_image, write_mask):
    patches = make([[1, 0, 0], [0, 1, 1]], root=tmp_path)
    for path in patches.paths:
        write_image(path)
    with pytest.raises(DataError, match=r"'x/0' of .* has no mask"):
        patches.read_mask(0)
    values = np.full((8, 8), 10)
    values[0, :4] = [20, 30, 0, 99]
    write_mask(tmp_path / "m/x/0.png", values)
    write_mask(tmp_path / "m/x/1.png", values[:, :7])
    mask = patches.read_mask(0, tmp_path / "m")
    assert mask.dtype == np.uint8
    assert mask[0, :5].tolist() == [1, 2, 255, 255, 0]
    with pytest.raises(DataError, match="7 x 8 px, its patch 8 x 8 px"):
        patches.read_mask(1, tmp_path / "m")
    with pytest.raises(DataError, match="does not exist"):
        patches.read_mask(1, tmp_path / "none")
