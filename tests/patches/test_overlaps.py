from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import IGNORE
from napari_wsss.jobs import Log
from napari_wsss.patches import report
from napari_wsss.patches.overlaps import Overlaps, overlaps_said

SIDE = 48
LABELS = {(0, 0): "110", (0, 24): "010", (24, 0): "101", (72, 72): "111"}


def test_a_pixel_has_a_class_of_all_patches_that_hold_it(make_overlapping):
    patches = make_overlapping(LABELS)
    overlaps = Overlaps(patches)
    assert overlaps.pairs == 3  # the first three among each other
    overlaps.contradicted = 0.0  # as in a large set, where these are few of the pixels
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
    assert not overlaps.wrong
    found = overlaps.possible(0, (SIDE, SIDE))
    assert found[:2].all()
    assert not found[2].any()


def test_compression_is_no_other_picture(make_overlapping):
    assert Overlaps(make_overlapping(LABELS, noise=3)).pairs == 3


#: 6 x 6 patches at steps of half their side, by rows: class a, both at the border, class b,
#: and at last c besides.
ROWS, COLUMNS = 6, 6
OF_ROW = ("100", "100", "100", "110", "010", "011")
RIGHT = {(24 * r, 24 * c): OF_ROW[r] for r in range(ROWS) for c in range(COLUMNS)}
WRONG = {(0, 0): "010"}  # a patch of class a


def known(overlaps, place):
    return overlaps.known(list(RIGHT).index(place), (SIDE, SIDE))


def possible(overlaps, place):
    return overlaps.possible(list(RIGHT).index(place), (SIDE, SIDE))


def test_right_labels_are_not_doubted(make_overlapping):
    patches = make_overlapping(RIGHT)
    overlaps = Overlaps(patches)
    assert overlaps.contradicted == 0
    assert not overlaps.wrong
    assert overlaps.doubtful.size == 0
    assert [log.level for log in overlaps_said(overlaps)] == ["info"]
    assert not any("contradict" in p.message for p in report(patches).problems)


def test_a_wrong_label_rules_nothing_out_that_other_patches_have(make_overlapping):
    """One patch of class a, labelled b: all around it keep their class, and it gets theirs."""
    patches = make_overlapping({**RIGHT, (24, 48): "010"})
    overlaps = Overlaps(patches)
    # All four parts of the wrong patch, and the parts of eight patches that lie in it.
    shares = overlaps.shares.reshape(ROWS, COLUMNS)
    np.testing.assert_array_equal(
        shares[:3, 1:4], [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    )
    assert shares.sum() == 4
    # Of the quarters of all patches those at the corners of the picture lie in one alone.
    assert overlaps.contradicted == pytest.approx(4 / (ROWS * COLUMNS - 4 * 0.25))
    assert overlaps.wrong
    for place in ((24, 48), (24, 72), (0, 24)):
        assert (known(overlaps, place) == 0).all(), place
    assert overlaps.doubtful.tolist() == [list(RIGHT).index((24, 48))]
    info, warning = overlaps_said(overlaps)
    assert isinstance(info, Log)
    assert warning.level == "warning"
    assert f"{overlaps.contradicted:.1%}" in warning.message


def test_a_class_that_is_missing_in_one_label_is_still_possible(make_overlapping):
    """Of patches that should all have both, one has class a alone."""
    both = {(24 * r, 24 * c): "110" for r in (3, 4, 5) for c in range(COLUMNS)}
    overlaps = Overlaps(make_overlapping({**RIGHT, **both, (96, 48): "100", **WRONG}))
    assert overlaps.wrong
    assert possible(overlaps, (120, 48))[1].all()
    assert (known(overlaps, (120, 48)) == IGNORE).all()
    strict = Overlaps(overlaps.patches)
    strict.contradicted = 0.0
    assert not possible(strict, (120, 48))[1, :24].any()


def test_two_that_lack_a_class_rule_it_out_among_four(make_overlapping):
    overlaps = Overlaps(make_overlapping({**RIGHT, (24, 48): "001"}))
    assert overlaps.wrong
    # The upper half of the patches at the border lies in two patches of class a alone.
    assert (known(overlaps, (72, 48))[:24] == 0).all()
    assert not possible(overlaps, (72, 48))[1, :24].any()
    # At the rim two patches hold a pixel; of those both must lack it.
    assert (known(overlaps, (72, 0))[:24, :24] == IGNORE).all()


def test_more_have_to_lack_a_class_where_more_hold_a_pixel(make_overlapping):
    """At steps of a quarter sixteen patches hold a pixel, and four have to agree."""
    places = [(12 * r, 12 * c) for r in range(9) for c in range(9)]
    wrong = [(48, 48), (48, 60), (60, 48)]
    overlaps = Overlaps(
        make_overlapping({**dict.fromkeys(places, "100"), **dict.fromkeys(wrong, "010")})
    )
    assert overlaps.wrong
    for i in range(len(places)):
        assert (overlaps.known(i, (SIDE, SIDE)) == 0).all(), places[i]
    assert {places[i] for i in overlaps.doubtful} <= set(wrong)


def test_no_class_is_looked_for_on_glass(make_overlapping):
    """Patches of one class on either side of glass have none in common, rightly."""
    labels = {**RIGHT, **{(72, 24 * c): "010" for c in range(COLUMNS)}}
    tissue = Overlaps(make_overlapping(labels))
    assert tissue.wrong
    for path in tissue.patches.paths:
        pixels = np.asarray(Image.open(path)).copy()
        y = int(path.stem.split("_y")[1][:5])
        pixels[max(0, 72 - y) : max(0, 96 - y)] = 250  # a band, wherever the patch begins
        Image.fromarray(pixels).save(path)
    glass = Overlaps(replace(tissue.patches, glass="ignore"))
    assert glass.shares.sum() == tissue.shares.sum()
    assert glass.contradicted == 0
    assert not glass.wrong


def test_patches_without_a_label_say_nothing(make_overlapping):
    overlaps = Overlaps(make_overlapping({**RIGHT, (24, 48): "000"}))
    assert overlaps.contradicted == 0
    assert (known(overlaps, (24, 72)) == 0).all()


def test_a_patch_of_another_size_breaks_nothing(make_overlapping):
    patches = make_overlapping({(0, 24 * c): "100" for c in range(40)})
    path = patches.paths[7]
    Image.fromarray(np.asarray(Image.open(path))[:, :40]).save(path)
    assert report(patches).n_patches == 40
    overlaps = Overlaps(patches)
    assert overlaps.known(7, (SIDE, 40)).shape == (SIDE, 40)


def test_the_report_names_what_is_contradicted(make_overlapping):
    problems = report(make_overlapping({**RIGHT, (24, 48): "010"})).problems
    (found,) = [p for p in problems if "contradict" in p.message]
    assert found.severity == "warning"
    assert "these 1 first" in found.message
    assert "slide_y00024_x00048" in found.message
