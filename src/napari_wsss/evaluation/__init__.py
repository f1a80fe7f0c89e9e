"""Measuring: one confusion matrix per image set, protocols, pictures and the report."""

from napari_wsss.evaluation.bootstrap import bootstrap_class_iou, bootstrap_interval, interval
from napari_wsss.evaluation.metrics import ConfusionMatrix, Scores, scores
from napari_wsss.evaluation.multilabel import (
    MultilabelScores,
    average_precision,
    multilabel_scores,
)
from napari_wsss.evaluation.protocols import Evaluation, Protocol, ProtocolResult
from napari_wsss.evaluation.render import colorize, heatmap, legend, overlay
from napari_wsss.evaluation.report import Curve, Example, write_report
from napari_wsss.evaluation.uncertainty import Reliability, ReliabilityCounts

__all__ = [
    "ConfusionMatrix",
    "Curve",
    "Evaluation",
    "Example",
    "MultilabelScores",
    "Protocol",
    "ProtocolResult",
    "Reliability",
    "ReliabilityCounts",
    "Scores",
    "average_precision",
    "bootstrap_class_iou",
    "bootstrap_interval",
    "colorize",
    "heatmap",
    "interval",
    "legend",
    "multilabel_scores",
    "overlay",
    "scores",
    "write_report",
]
