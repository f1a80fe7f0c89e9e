from __future__ import annotations

import numpy as np
import pytest

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


#: 6 x 6 patches at steps of half their side: class a above, b below; the border lies in the
#: fourth row of patches, which have both.
ROWS, COLUMNS = 6, 6
RIGHT = {
    (24 * r, 24 * c): "100" if r < 3 else "110" if r == 3 else "010"
    for r in range(ROWS)
    for c in range(COLUMNS)
}


def test_right_labels_are_not_doubted(make_overlapping):
    patches = make_overlapping(RIGHT)
    overlaps = Overlaps(patches)
    assert overlaps.contradicted == 0
    assert not overlaps.wrong
    assert overlaps.corrected() is patches
    assert overlaps.doubtful.size == 0
    assert not any("contradict" in p.message for p in report(patches).problems)
    assert [log.level for log in overlaps_said(overlaps)] == ["info"]


def test_a_wrong_label_rules_nothing_out_that_other_patches_have(make_overlapping):
    """One patch of class a, labelled b: all around it keep their class, and it gets theirs."""
    patches = make_overlapping({**RIGHT, (24, 48): "010"})
    overlaps = Overlaps(patches)
    assert overlaps.wrong
    # Four parts of the wrong patch, in 36 patches of four parts each, of which eight see them.
    places = list(RIGHT)
    i, neighbour = places.index((24, 48)), places.index((24, 72))
    assert (overlaps.known(neighbour, (SIDE, SIDE)) == 0).all()
    assert overlaps.possible(neighbour, (SIDE, SIDE))[0].all()
    assert (overlaps.known(i, (SIDE, SIDE)) == 0).all()
    right = [p == (24, 48) for p in places]
    np.testing.assert_array_equal((overlaps.labels != patches.labels).any(1), right)
    np.testing.assert_array_equal(overlaps.labels[i], [True, False, False])
    assert overlaps.corrected().labels[i].tolist() == [True, False, False]
    assert overlaps.doubtful.tolist() == [i]
    info, warning = overlaps_said(overlaps)
    assert isinstance(info, Log)
    assert warning.level == "warning"
    assert f"{overlaps.contradicted:.1%}" in warning.message
    assert "1 patches" in warning.message


def test_a_class_that_no_overlapping_patch_has_is_taken_from_a_label(make_overlapping):
    patches = make_overlapping({**RIGHT, (24, 48): "101", (48, 0): "010"})
    overlaps = Overlaps(patches)
    assert overlaps.wrong
    i = list(RIGHT).index((24, 48))
    assert overlaps.labels[i].tolist() == [True, False, False]
    # Without a contradiction elsewhere it could be a few pixels that the others do not count.
    alone = Overlaps(patches)
    alone.contradicted = 0.0
    assert alone.labels[i].tolist() == [True, False, True]


def test_one_that_is_missing_among_two_is_still_possible(make_overlapping):
    """At the border a patch that should have both has one; no other pixel is lost by it."""
    patches = make_overlapping({**RIGHT, (72, 48): "100", (0, 0): "001"})
    overlaps = Overlaps(patches)
    assert overlaps.wrong
    below = list(RIGHT).index((96, 48))  # of b alone, half of it in the patch without b
    assert overlaps.possible(below, (SIDE, SIDE))[1].all()


def test_patches_without_a_label_say_nothing(make_overlapping):
    overlaps = Overlaps(make_overlapping({**RIGHT, (24, 48): "000"}))
    assert overlaps.contradicted == 0
    assert (overlaps.known(list(RIGHT).index((24, 72)), (SIDE, SIDE)) == 0).all()


def test_the_report_names_what_is_contradicted(make_overlapping):
    problems = report(make_overlapping({**RIGHT, (24, 48): "010"})).problems
    (found,) = [p for p in problems if "contradict" in p.message]
    assert found.severity == "warning"
    assert "these 1 first" in found.message
    assert "slide_y00024_x00048" in found.message
