"""Networks: encoder, classifier, segmenter, and their checkpoints."""

from napari_wsss.models.base import DenseOutput, WsssModel
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
from napari_wsss.models.registering import add_model, model_card, remove_model
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
