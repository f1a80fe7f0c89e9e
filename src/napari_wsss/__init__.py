"""Pixel-level segmentation of H&E slides from patch-level labels.

The names below load on first use, so that ``import napari_wsss`` stays quick and
imports neither torch nor a screen toolkit.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "ClassTable": "classes",
    "Classifier": "models",
    "Cluster": "inference",
    "PatchSet": "patches",
    "PseudoMasks": "cams",
    "Segmenter": "models",
    "Slide": "slides",
    "SlideSegmentation": "inference",
    "convert_slide": "slides",
    "evaluate": "workflows",
    "generate_pseudo_masks": "cams",
    "load_classifier": "models",
    "load_patches": "patches",
    "load_segmenter": "models",
    "map_slide": "inference",
    "open_slide": "slides",
    "pretrain_encoder": "training",
    "recipe": "recipes",
    "segment_slide": "inference",
    "train_classifier": "training",
    "train_segmenter": "training",
    "verify_result": "inference",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"napari_wsss.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'napari_wsss' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
