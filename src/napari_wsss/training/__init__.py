"""Training: the classifier on patch labels, the segmenter on masks."""

from napari_wsss.training.classifier import classifier_job, train_classifier
from napari_wsss.training.loop import history_path
from napari_wsss.training.segmenter import TrueMasks, segmenter_job, train_segmenter

__all__ = [
    "TrueMasks",
    "classifier_job",
    "history_path",
    "segmenter_job",
    "train_classifier",
    "train_segmenter",
]
