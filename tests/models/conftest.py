"""Small models: random weights, three classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, ModelInfo, Segmenter
from napari_wsss.settings import EncoderSettings

MakeInfo = Callable[..., ModelInfo]


@pytest.fixture
def make_info() -> MakeInfo:
    """Make a header; `encoder` holds fields of EncoderSettings, the rest is architecture."""

    def make(
        kind: str = "classifier", *, classes: int = 3, encoder: dict | None = None, **architecture
    ) -> ModelInfo:
        fields = {"name": "test_resnet", "weights": "random", "upscale": 1.0, **(encoder or {})}
        names = [f"class {i}" for i in range(classes)]
        return ModelInfo(
            kind=kind,
            encoder=EncoderSettings(**fields),
            architecture=architecture,
            classes=ClassTable.from_names(names).to_dict(),
            patch_size_px=64,
        )

    return make


@pytest.fixture
def classifier(make_info: MakeInfo) -> Classifier:
    return Classifier(make_info()).eval()


@pytest.fixture
def segmenter(make_info: MakeInfo) -> Segmenter:
    return Segmenter(make_info("segmenter", decoder_channels=32)).eval()
