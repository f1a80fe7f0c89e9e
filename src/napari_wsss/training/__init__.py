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
    from napari_wsss.training.pretrain import PretrainedEncoder, pretrain_encoder, pretrain_job
    from napari_wsss.training.segmenter import segmenter_job, train_segmenter
    from napari_wsss.training.targets import MixedTargets, TrueMasks, with_corrections
    from napari_wsss.training.unlabelled import read_unlabelled

__all__ = [
    "MixedTargets",
    "PretrainedEncoder",
    "TrueMasks",
    "add_corrections",
    "add_corrections_job",
    "classifier_job",
    "history_path",
    "pretrain_encoder",
    "pretrain_job",
    "read_corrections",
    "read_unlabelled",
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
        "pretrain": ("PretrainedEncoder", "pretrain_encoder", "pretrain_job"),
        "segmenter": ("segmenter_job", "train_segmenter"),
        "targets": ("MixedTargets", "TrueMasks", "with_corrections"),
        "unlabelled": ("read_unlabelled",),
    },
)
