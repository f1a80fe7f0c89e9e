"""Training: the classifier on patch labels, the segmenter on masks."""

from napari_wsss.training.classifier import classifier_job, train_classifier
from napari_wsss.training.corrections import (
    add_corrections,
    add_corrections_job,
    read_corrections,
)
from napari_wsss.training.loop import history_path
from napari_wsss.training.segmenter import segmenter_job, train_segmenter
from napari_wsss.training.targets import MixedTargets, TrueMasks, with_corrections

__all__ = [
    "MixedTargets",
    "TrueMasks",
    "add_corrections",
    "add_corrections_job",
    "classifier_job",
    "history_path",
    "read_corrections",
    "segmenter_job",
    "train_classifier",
    "train_segmenter",
    "with_corrections",
]
