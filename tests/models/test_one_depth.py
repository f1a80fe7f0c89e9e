from __future__ import annotations

import pytest
import torch

from napari_wsss.errors import ModelError
from napari_wsss.models import Classifier
from napari_wsss.models.one_depth import OneDepth


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_map_is_that_of_the_whole_classifier(make_info, name, number):
    torch.manual_seed(0)
    model = Classifier(
        make_info(encoder={"name": name}, deep_supervision=True, joint_head=8)
    ).eval()
    image = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = model.head_maps(model.features(image))[number - 1]
        part = OneDepth(model, number)
        (found,) = part.head_maps(part.features(image))
        assert torch.equal(part.dense(image).presence, found)
    torch.testing.assert_close(found, expected)
    assert not part.training
    assert part.alignment_px == model.alignment_px
    assert part.info.patch_size_px == model.info.patch_size_px


def test_deeper_layers_are_left_out(make_info):
    model = Classifier(make_info(deep_supervision=True))
    sizes = [sum(p.numel() for p in OneDepth(model, n).parameters()) for n in (1, 2, 3)]
    assert sizes == sorted(set(sizes))
    assert sizes[0] < sizes[2] / 2


def test_a_depth_without_head_is_refused(make_info):
    with pytest.raises(ModelError, match="Depth 1"):
        OneDepth(Classifier(make_info()), 1)
