"""The depths of a classifier: how they are numbered, and of which one pass gives the map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_wsss.errors import ModelError

if TYPE_CHECKING:
    from napari_wsss.models.classifier import Classifier
    from napari_wsss.models.info import ModelInfo

__all__ = ["Depth", "depth_count", "depth_number", "has_head", "has_joint_head"]

#: A depth as a user names it; see `depth_number`.
Depth = int | Literal["joint"]


def depth_count(info: ModelInfo) -> int:
    """Return at how many depths a classifier has features, D."""
    return len(set(info.architecture.get("depths", (-3, -2, -1))))


def has_joint_head(info: ModelInfo) -> bool:
    """Whether a classifier has a head on the features of all depths."""
    return bool(info.architecture.get("joint_head"))


def has_head(info: ModelInfo, number: int) -> bool:
    """Whether depth `number`, 1 to D, has a class head.

    Its map is then part of one forward pass. The map of a depth without head is Grad-CAM,
    which needs gradients of one image at a time.
    """
    return bool(info.architecture.get("deep_supervision")) or number == depth_count(info)


def depth_number(classifier: Classifier, depth: Depth | None) -> int | None:
    """Return the number of a depth, 1 (shallowest) to D (deepest), as pseudo masks count.

    Parameters
    ----------
    classifier
        Whose depths they are.
    depth
        Such a number; or a negative one, the encoder's stage as the setting ``depths`` names
        it, so that -1 is the deepest; or ``"joint"``, the head of all depths; or None, the
        classifier's own map, which alone decides where it segments.

    Returns
    -------
    int or None
        None for the classifier's own map, also where it goes by another name: that of the
        joint head where there is one, of the only head where there is one head.

    Raises
    ------
    ModelError
        If there is no such depth, or none whose map one forward pass gives.
    """
    count, joint = len(classifier.stages), classifier.joint is not None
    if depth is None or (depth == "joint" and joint):
        return None
    if depth == "joint":
        raise ModelError(
            "This classifier has no joint head. Train it with joint_head = true, or take another "
            f"depth: {_range(count)}."
        )
    number = _number(classifier, depth)
    if number is None:
        raise ModelError(
            f"This classifier has no depth {depth}. Its depths are {_range(count)}"
            + (", and 'joint'." if joint else ".")
        )
    if not (classifier.deep_supervision or number == count):
        raise ModelError(
            f"This classifier has a class head at its deepest layer only: a map of depth {number} "
            "needs gradients, one patch at a time, and cannot be made of a whole slide. Look at a "
            f"region instead, take depth {count}, or train with deep_supervision = true."
        )
    return None if len(classifier.heads) == 1 and not joint else number


def _number(classifier: Classifier, depth: int) -> int | None:
    stages = classifier.stages
    if depth > 0:
        return depth if depth <= len(stages) else None
    stage = depth + len(classifier.encoder.channels)
    return stages.index(stage) + 1 if depth and stage in stages else None


def _range(count: int) -> str:
    return "1" if count == 1 else f"1 (shallowest) to {count} (deepest)"
