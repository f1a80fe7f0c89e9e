"""The two ways a weakly supervised segmentation is measured, reported apart."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss import __version__
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation.bootstrap import bootstrap_class_iou, bootstrap_interval, interval
from napari_wsss.evaluation.metrics import ConfusionMatrix, Scores, scores
from napari_wsss.evaluation.uncertainty import Reliability
from napari_wsss.files import atomic_write

__all__ = ["Evaluation", "Protocol", "ProtocolResult"]


class Protocol(StrEnum):
    """How the classes that a window may hold are known when a mask is predicted.

    Attributes
    ----------
    PREDICTED_GATE
        By the model's own gate: nothing but the image is given, as in use.
    ORACLE_LABELS
        By the true patch labels, as many papers report it: an upper bound that cannot
        be reached in use, and never to be compared with the other.
    """

    PREDICTED_GATE = "predicted_gate"
    ORACLE_LABELS = "oracle_labels"


@dataclass(frozen=True)
class ProtocolResult:
    """What was measured under one protocol.

    Attributes
    ----------
    matrix
        Counts over all pixels of all images.
    n_images
        Number of images.
    scores
        Metrics of `matrix`.
    interval95
        Bootstrap interval of the mIoU; NaN where it is not known.
    iou_interval95
        The same for the IoU of each class name.
    """

    matrix: ConfusionMatrix
    n_images: int
    scores: Scores
    interval95: tuple[float, float]
    iou_interval95: Mapping[str, tuple[float, float]]

    @classmethod
    def from_counts(
        cls, per_image: NDArray[Any], names: tuple[str, ...], bootstrap: int = 1000, seed: int = 0
    ) -> ProtocolResult:
        """Measure per-image counts of shape (I, K, K + 1); see `bootstrap_interval`."""
        per_image = np.asarray(per_image)
        k = len(names)
        if per_image.shape[1:] != (k, k + 1):
            raise DataError(
                f"Per-image counts have shape {per_image.shape}; "
                f"for {k} classes (I, {k}, {k + 1}) is needed."
            )
        matrix = ConfusionMatrix.from_counts(per_image.sum(axis=0))
        resamples = bootstrap if len(per_image) > 1 else 0
        iou = bootstrap_class_iou(per_image, resamples, seed)
        return cls(
            matrix=matrix,
            n_images=len(per_image),
            scores=scores(matrix, names),
            interval95=bootstrap_interval(per_image, resamples, seed),
            iou_interval95={name: interval(iou[:, i]) for i, name in enumerate(names)},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; None stands for what is not defined."""
        s = self.scores
        data = {
            "miou": s.miou,
            "fwiou": s.fwiou,
            "accuracy": s.accuracy,
            "mean_dice": s.mean_dice,
            "iou": dict(s.iou),
            "interval95": list(self.interval95),
            "dice": dict(s.dice),
            "iou_interval95": {name: list(ends) for name, ends in self.iou_interval95.items()},
            "support_px": dict(s.support),
            "n_images": self.n_images,
            "n_pixels": self.matrix.n_pixels,
            "confusion": self.matrix.counts.tolist(),
        }
        return {key: _without_nan(value) for key, value in data.items()}


@dataclass(frozen=True)
class Evaluation:
    """A model measured on images with masks, under both protocols.

    Attributes
    ----------
    classes
        The classes of the masks.
    results
        One result per protocol; both are always there.
    conditions
        What the numbers depend on (model, data, µm/px, seed ...), as plain data.
    reliability
        Of the uncertainty, with the predicted gate; None if it was not measured.

    Raises
    ------
    DataError
        If a protocol is missing or unknown.
    """

    classes: ClassTable
    results: Mapping[Protocol, ProtocolResult]
    conditions: Mapping[str, Any] = field(default_factory=dict)
    reliability: Reliability | None = None

    def __post_init__(self) -> None:
        if set(self.results) != set(Protocol):
            raise DataError(
                f"An evaluation needs the protocols {', '.join(Protocol)}; "
                f"given: {', '.join(map(str, self.results)) or 'none'}."
            )

    @classmethod
    def from_counts(
        cls,
        per_image: Mapping[str, NDArray[Any]],
        classes: ClassTable,
        *,
        conditions: Mapping[str, Any] | None = None,
        reliability: Reliability | None = None,
        bootstrap: int = 1000,
        seed: int = 0,
    ) -> Evaluation:
        """Measure both protocols from the counts of each image.

        Parameters
        ----------
        per_image
            Per protocol name the counts of the images, shape (I, K, K + 1): the `counts`
            of one `ConfusionMatrix` per image, stacked.
        classes
            The K classes.
        conditions
            What the numbers depend on, as plain data.
        reliability
            Of the uncertainty, if it was measured.
        bootstrap
            Resamples of images for the intervals; 0 for none.
        seed
            Seed of the resampling.

        Raises
        ------
        DataError
            If a protocol is missing or a shape does not fit the classes.
        """
        unknown = set(per_image) - set(Protocol)
        if unknown:
            raise DataError(
                f"There is no protocol {', '.join(sorted(map(repr, map(str, unknown))))}. "
                f"The protocols are {', '.join(Protocol)}."
            )
        return cls(
            classes,
            {
                Protocol(name): ProtocolResult.from_counts(c, classes.names, bootstrap, seed)
                for name, c in per_image.items()
            },
            dict(conditions or {}),
            reliability,
        )

    def __getitem__(self, protocol: str) -> ProtocolResult:
        return self.results[Protocol(protocol)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; fractions, with None for what is not defined."""
        measured = {}
        if self.reliability is not None:
            measured["uncertainty"] = _without_nan(self.reliability.to_dict())
        return {
            "protocols": {p.value: self.results[p].to_dict() for p in Protocol},
            **measured,
            "classes": self.classes.to_dict(),
            "conditions": _without_nan(dict(self.conditions)),
            "version": __version__,
        }

    def write_json(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Write `to_dict` as JSON: the whole file, or nothing.

        Raises
        ------
        OutputError
            If the file cannot be written, or exists and `overwrite` is false.
        DataError
            If a condition is not plain data.
        """
        try:
            text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise DataError(f"The conditions cannot be written as JSON: {error}") from error
        with atomic_write(path, overwrite=overwrite) as file:
            file.write(text.encode() + b"\n")


def _without_nan(value: Any) -> Any:
    """Replace NaN and infinities, which JSON does not know, by None at any depth."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, Path):
        return str(value)
    return value
