from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.cams import generate_pseudo_masks
from napari_wsss.cams.overlaps import Overlaps
from napari_wsss.patches import load_patches
from napari_wsss.settings import PseudoMaskSettings

SIDE = 48


@pytest.fixture
def make_overlapping(tmp_path, make_patches):
    """Cut patches at steps of half their side from one picture."""

    def make(labels, *, name="slide_y{y:05d}_x{x:05d}", noise=0, side=SIDE):
        patches = make_patches()  # for its class table
        root = tmp_path / "overlapping"
        root.mkdir()
        rng = np.random.default_rng(0)
        picture = rng.integers(60, 180, (144, 144, 3), np.uint8)
        rows = ["path,a,b,c"]
        for (y, x), label in labels.items():
            pixels = picture[y : y + side, x : x + side].astype(int)
            pixels = pixels + rng.integers(-noise, noise + 1, pixels.shape)
            file = f"{name.format(y=y, x=x)}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / file)
            rows.append(f"{file},{','.join(label)}")
        (root / "labels.csv").write_text("\n".join(rows))
        patches.classes.write(root / "classes.toml")
        return load_patches(root)

    return make


LABELS = {(0, 0): "110", (0, 24): "010", (24, 0): "101", (72, 72): "111"}


def test_a_pixel_has_a_class_of_all_patches_that_hold_it(make_overlapping):
    patches = make_overlapping(LABELS)
    overlaps = Overlaps(patches)
    assert overlaps.pairs == 3  # the first three among each other
    found = overlaps.possible(0, (SIDE, SIDE))
    expected = np.zeros((3, SIDE, SIDE), bool)
    expected[:2] = True
    expected[0, :, 24:] = False  # 110 and 010
    expected[1, 24:, :24] = False  # 110 and 101
    expected[:2, 24:, 24:] = [[[False]], [[True]]]  # with 010; 101 contradicts both
    contradicted = np.zeros((SIDE, SIDE), bool)
    contradicted[24:, 24:] = True  # nothing is left of 110, 010 and 101: the own label
    expected[:, contradicted] = np.array([[True], [True], [False]])
    np.testing.assert_array_equal(found, expected)
    alone = overlaps.possible(3, (SIDE, SIDE))
    assert alone.all()


@pytest.mark.parametrize(
    "change", [{"name": "slide_{y}_{x}"}, {"noise": 60}], ids=["no places", "other pixels"]
)
def test_names_that_say_nothing_of_places_narrow_nothing(make_overlapping, change):
    patches = make_overlapping(LABELS, **change)
    overlaps = Overlaps(patches)
    assert overlaps.pairs == 0
    found = overlaps.possible(0, (SIDE, SIDE))
    assert found[:2].all()
    assert not found[2].any()


def test_compression_is_no_other_picture(make_overlapping):
    assert Overlaps(make_overlapping(LABELS, noise=3)).pairs == 3


def test_pseudo_masks_keep_to_what_overlapping_labels_allow(
    make_overlapping, make_classifier, tmp_path
):
    patches = make_overlapping(LABELS)
    events = []
    settings = PseudoMaskSettings(overlaps=True)
    pseudo = generate_pseudo_masks(
        patches, make_classifier(), tmp_path / "p", settings, on_event=events.append
    )
    first = pseudo.targets(patches.names[0])
    assert (first[:, :24, 24:] == 1).all()
    assert (first[:, 24:, :24] == 0).all()
    assert (pseudo.agreement(patches.names[0])[:24, 24:] == 1).all()
    assert any("3 pairs" in getattr(e, "message", "") for e in events)
