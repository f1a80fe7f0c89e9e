"""Networks: encoder, classifier, segmenter, their checkpoints, and the registry of models.

The names below load on first use, so that the registry can be read without loading torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_wsss.models.base import DenseOutput, WsssModel
    from napari_wsss.models.cards import model_card
    from napari_wsss.models.checkpoint import (
        load_classifier,
        load_model,
        load_segmenter,
        read_info,
        save_model,
        weights_digest,
    )
    from napari_wsss.models.classifier import Classifier
    from napari_wsss.models.encoder import Encoder
    from napari_wsss.models.fetching import model_file
    from napari_wsss.models.info import ModelInfo
    from napari_wsss.models.registering import add_model, remove_model
    from napari_wsss.models.registry import RegisteredModel, find_model, registered_models
    from napari_wsss.models.segmenter import Segmenter

_HOMES = {
    "Classifier": "classifier",
    "DenseOutput": "base",
    "Encoder": "encoder",
    "ModelInfo": "info",
    "RegisteredModel": "registry",
    "Segmenter": "segmenter",
    "WsssModel": "base",
    "add_model": "registering",
    "find_model": "registry",
    "load_classifier": "checkpoint",
    "load_model": "checkpoint",
    "load_segmenter": "checkpoint",
    "model_card": "cards",
    "model_file": "fetching",
    "read_info": "checkpoint",
    "registered_models": "registry",
    "remove_model": "registering",
    "save_model": "checkpoint",
    "weights_digest": "checkpoint",
}

__all__ = [
    "Classifier",
    "DenseOutput",
    "Encoder",
    "ModelInfo",
    "RegisteredModel",
    "Segmenter",
    "WsssModel",
    "add_model",
    "find_model",
    "load_classifier",
    "load_model",
    "load_segmenter",
    "model_card",
    "model_file",
    "read_info",
    "registered_models",
    "remove_model",
    "save_model",
    "weights_digest",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
