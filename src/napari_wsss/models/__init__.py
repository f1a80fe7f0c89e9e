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
from napari_wsss.models.info import ModelInfo
from napari_wsss.models.segmenter import Segmenter

__all__ = [
    "Classifier",
    "DenseOutput",
    "Encoder",
    "ModelInfo",
    "Segmenter",
    "WsssModel",
    "load_classifier",
    "load_model",
    "load_segmenter",
    "read_info",
    "save_model",
    "weights_digest",
]
