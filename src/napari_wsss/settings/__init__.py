"""One settings model per stage: defaults, bounds and the sentence that explains each field.

Panel forms, ``--help``, TOML files and checkpoint headers are made from these models, so
a field is described here and nowhere else. Unknown names are refused, because a misspelt
setting that is silently ignored costs a training run.
"""

from __future__ import annotations

from napari_wsss.settings.base import Settings
from napari_wsss.settings.classifier import (
    JOINT_WIDTH,
    ClassifierSettings,
    PDASettings,
    PseudoMaskSettings,
)
from napari_wsss.settings.inference import EvaluationSettings, InferenceSettings
from napari_wsss.settings.network import (
    AugmentationSettings,
    EncoderSettings,
    OptimiserSettings,
    TrainingSettings,
)
from napari_wsss.settings.pretraining import (
    PretrainEncoderSettings,
    PretrainSettings,
    ViewSettings,
)
from napari_wsss.settings.segmenter import NoiseSettings, SegmenterSettings, TeacherSettings

__all__ = [
    "JOINT_WIDTH",
    "AugmentationSettings",
    "ClassifierSettings",
    "EncoderSettings",
    "EvaluationSettings",
    "InferenceSettings",
    "NoiseSettings",
    "OptimiserSettings",
    "PDASettings",
    "PretrainEncoderSettings",
    "PretrainSettings",
    "PseudoMaskSettings",
    "SegmenterSettings",
    "Settings",
    "TeacherSettings",
    "TrainingSettings",
    "ViewSettings",
]
