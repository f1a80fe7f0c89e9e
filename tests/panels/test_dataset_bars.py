"""Names of combinations beside their bars."""

import pytest

from napari_wsss.panels.dataset_bars import shortened


def within(most):
    return lambda text: len(text) <= most


def test_combinations_that_begin_alike_can_be_told_apart():
    names = ["tumour + stroma + lymphocytes", "tumour + stroma + necrosis"]
    cut = [shortened(name, within(22)) for name in names]
    assert cut == ["tumo. + stro. + lymp.", "tumo. + stro. + necr."]


@pytest.mark.parametrize(
    ("name", "most", "expected"),
    [
        ("tumour + stroma", 15, "tumour + stroma"),
        ("tumour + stroma", 14, "tumo. + stro."),
        ("lymphocytes + fat", 14, "lymphoc. + fat"),
        ("lymphocytes", 5, "lymphocytes"),  # of one class: its end is cut elsewhere
        ("tumour + stroma", 3, "tumour + stroma"),  # as it cannot be made to fit
    ],
)
def test_classes_are_cut_no_more_than_they_must(name, most, expected):
    assert shortened(name, within(most)) == expected
