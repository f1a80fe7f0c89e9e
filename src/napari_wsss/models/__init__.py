"""Networks: encoder, classifier, segmenter, their checkpoints, and the registry of models.

The names below load on first use, so that the registry can be read without loading torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsss.lazy import on_first_use

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


__getattr__ = on_first_use(
    __name__,
    {
        "base": ("DenseOutput", "WsssModel"),
        "cards": ("model_card",),
        "checkpoint": (
            "load_classifier",
            "load_model",
            "load_segmenter",
            "read_info",
            "save_model",
            "weights_digest",
        ),
        "classifier": ("Classifier",),
        "encoder": ("Encoder",),
        "fetching": ("model_file",),
        "info": ("ModelInfo",),
        "registering": ("add_model", "remove_model"),
        "registry": ("RegisteredModel", "find_model", "registered_models"),
        "segmenter": ("Segmenter",),
    },
)
