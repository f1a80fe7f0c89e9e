"""Small models with random weights, and a network whose output is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, DenseOutput, ModelInfo, Segmenter, WsssModel
from napari_wsss.settings import EncoderSettings

MakeModel = Callable[..., WsssModel]


def info_of(kind: str, encoder: dict, architecture: dict) -> ModelInfo:
    fields = {"name": "test_resnet", "weights": "random", "upscale": 1.0, **encoder}
    return ModelInfo(
        kind=kind,
        encoder=EncoderSettings(**fields),
        architecture=architecture,
        classes=ClassTable.from_names(["a", "b", "c"]).to_dict(),
        patch_size_px=48,
    )


@pytest.fixture
def make_model() -> MakeModel:
    def make(kind: str = "segmenter", *, encoder: dict | None = None, **architecture) -> WsssModel:
        torch.manual_seed(0)
        if kind == "segmenter":
            architecture = {"decoder_channels": 16, **architecture}
        model = {"segmenter": Segmenter, "classifier": Classifier}[kind](
            info_of(kind, encoder or {}, architecture)
        )
        return model.eval()

    return make


class KnownModel(Classifier):
    """Logits and presence that the test chooses, as functions of the pixels."""

    logits: Callable[[Tensor], Tensor]
    presence: Callable[[Tensor], Tensor]

    def dense(self, x: Tensor) -> DenseOutput:
        small = torch.nn.functional.avg_pool2d(x, 16)
        return DenseOutput(self.logits(x), self.presence(small))


@pytest.fixture
def known_model() -> Callable[..., KnownModel]:
    def make(
        logits: Callable[[Tensor], Tensor], presence: Callable[[Tensor], Tensor]
    ) -> KnownModel:
        model = KnownModel(info_of("classifier", {}, {})).eval()
        model.logits, model.presence = logits, presence
        return model

    return make
