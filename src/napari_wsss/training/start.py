"""What the segmenter begins with: the encoder of the classifier before it."""

from __future__ import annotations

from napari_wsss.cams import PseudoMasks
from napari_wsss.jobs import Job, Log
from napari_wsss.models import Segmenter
from napari_wsss.models.weights import load_encoder_weights
from napari_wsss.training.targets import MixedTargets, Targets

__all__ = ["start_from_classifier"]


def start_from_classifier(model: Segmenter, targets: Targets) -> Job[None]:
    """Give a new segmenter the encoder of the classifier that made its pseudo masks.

    It has learnt these tissues already. Without pseudo masks, or where the encoder is another
    network, `model` stays as it is.

    Parameters
    ----------
    model
        Its encoder may have fewer stages than the classifier's.
    targets
        What it is going to learn from.

    Raises
    ------
    CheckpointError, ModelError
        If the weights beside the pseudo masks are damaged.
    """
    masks = targets.base if isinstance(targets, MixedTargets) else targets
    if not isinstance(masks, PseudoMasks):
        return
    path, name = masks.encoder_weights, masks.encoder_name
    settings = model.encoder.settings
    if path is None:
        yield Log("These pseudo masks hold no weights of their classifier; the encoder begins new")
    elif name != settings.name:
        yield Log(
            f"The classifier's encoder is {name}, not {settings.name}; the segmenter's begins new"
        )
    else:
        load_encoder_weights(model.encoder.net, settings.changed(weights=str(path)))
        yield Log("The encoder begins with what the classifier has learnt")
