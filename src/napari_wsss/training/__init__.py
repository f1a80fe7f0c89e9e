"""Training: the classifier on patch labels, the segmenter on masks."""

from typing import TYPE_CHECKING

from napari_wsss.lazy import on_first_use

if TYPE_CHECKING:
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

__getattr__ = on_first_use(
    __name__,
    {
        "classifier": ("classifier_job", "train_classifier"),
        "corrections": ("add_corrections", "add_corrections_job", "read_corrections"),
        "loop": ("history_path",),
        "segmenter": ("segmenter_job", "train_segmenter"),
        "targets": ("MixedTargets", "TrueMasks", "with_corrections"),
    },
)
