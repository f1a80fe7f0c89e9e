from __future__ import annotations

import pytest

from napari_wsss.errors import ModelError
from napari_wsss.models import Classifier
from napari_wsss.models.depths import depth_count, depth_number, has_head, has_joint_head


@pytest.fixture
def make(make_info):
    def make(**architecture) -> Classifier:
        return Classifier(make_info(**architecture))

    return make


@pytest.mark.parametrize("depths", [[-3, -2, -1], [2, 3, 4]])
def test_depths_are_counted_from_the_shallowest(make, depths):
    """By numbers, as pseudo masks are, or by stages of the encoder, as settings name them."""
    model = make(depths=depths, deep_supervision=True)
    assert [depth_number(model, d) for d in (1, 2, 3)] == [1, 2, 3]
    assert [depth_number(model, d) for d in (-3, -2, -1)] == [1, 2, 3]


def test_a_stage_that_gives_no_maps_is_no_depth(make):
    model = make(depths=[-4, -1], deep_supervision=True)
    assert depth_number(model, -4) == 1
    for wrong in (-2, 3, 0, -9):
        with pytest.raises(ModelError, match=rf"no depth {wrong}.*1 \(shallowest\) to 2"):
            depth_number(model, wrong)


def test_the_classifiers_own_map_is_one_whatever_it_is_called(make):
    assert depth_number(make(), None) is None
    assert depth_number(make(), 3) is None  # its only head
    assert depth_number(make(), -1) is None
    joint = make(joint_head=8)
    assert depth_number(joint, "joint") is None
    assert depth_number(joint, 3) == 3  # another head than the joint one
    assert depth_number(make(deep_supervision=True), 3) == 3  # its own is the mean


def test_depths_without_head_say_why_and_what_to_do(make):
    with pytest.raises(ModelError, match=r"needs gradients(.|\n)*deep_supervision = true"):
        depth_number(make(), 1)
    with pytest.raises(ModelError, match="joint_head = true"):
        depth_number(make(), "joint")


def test_the_header_says_the_same(make):
    for model in (make(), make(deep_supervision=True), make(joint_head=8), make(depths=[-1])):
        info = model.info
        assert depth_count(info) == len(model.stages)
        assert has_joint_head(info) == (model.joint is not None)
        headed = [n for n in range(1, depth_count(info) + 1) if has_head(info, n)]
        assert headed == [model.stages.index(s) + 1 for s in model.headed]
