"""What the segmenter begins with: the encoder of the model that made its pseudo masks."""

from __future__ import annotations

from napari_wsss.cams import PseudoMasks
from napari_wsss.jobs import Job, Log
from napari_wsss.models import Segmenter
from napari_wsss.models.weights import load_encoder_weights
from napari_wsss.patches import PatchSet
from napari_wsss.settings import SegmenterSettings
from napari_wsss.training.targets import MixedTargets, Targets

__all__ = ["rare_class", "start", "start_from_classifier"]

#: A class of fewer groups (images, slides, patients) may be learnt by their looks.
FEW_GROUPS = 10


def start(
    model: Segmenter, patches: PatchSet, targets: Targets, settings: SegmenterSettings
) -> Job[None]:
    """Give a new segmenter the encoder that ``start_from`` asks for.

    Of a class that occurs in a few images only, a classifier learns these images by heart, and
    a segmenter that goes on from there finds the class where it is not. With ``"auto"`` it goes
    on only if every class occurs in at least ten groups (benchmarks/accuracy.md).

    Parameters
    ----------
    model
        Freshly made.
    patches
        What it trains on.
    targets, settings
        As for `train_segmenter`.

    Raises
    ------
    CheckpointError, ModelError
        As `start_from_classifier`.
    """
    wanted = settings.start_from
    if wanted == "encoder" or not isinstance(_pseudo_masks(targets), PseudoMasks):
        return
    rare = rare_class(patches) if wanted == "auto" else None
    if rare is None:
        yield from start_from_classifier(model, targets)
    else:
        name, groups = rare
        yield Log(
            f"The encoder begins new, not with what was learnt before: {name} occurs in "
            f"{groups} image{'s' * (groups > 1)} or slides, fewer than {FEW_GROUPS}"
        )


def rare_class(patches: PatchSet) -> tuple[str, int] | None:
    """Return the class of fewest groups and their number, if that is below ten."""
    where = zip(patches.class_groups, patches.classes.names, strict=True)
    count, name = min((len(groups), name) for groups, name in where if groups)
    return (name, count) if count < FEW_GROUPS else None


def start_from_classifier(model: Segmenter, targets: Targets) -> Job[None]:
    """Give a new segmenter the encoder of the model that made its pseudo masks.

    It has learnt these tissues already. Without pseudo masks, or where the encoder is another
    network, `model` stays as it is.

    Parameters
    ----------
    model
        Its encoder may have fewer stages than that one's.
    targets
        What it is going to learn from.

    Raises
    ------
    CheckpointError, ModelError
        If the weights beside the pseudo masks are damaged.
    """
    masks = _pseudo_masks(targets)
    if not isinstance(masks, PseudoMasks):
        return
    path, name = masks.encoder_weights, masks.encoder_name
    settings = model.encoder.settings
    if path is None:
        yield Log("These pseudo masks hold no weights of what made them; the encoder begins new")
    elif name != settings.name:
        yield Log(
            f"The pseudo masks were made with {name}, not {settings.name}; the encoder begins new"
        )
    else:
        load_encoder_weights(model.encoder.net, settings.changed(weights=str(path)))
        yield Log(f"The encoder begins with what the {masks.made_by} has learnt")


def _pseudo_masks(targets: Targets) -> Targets:
    return targets.base if isinstance(targets, MixedTargets) else targets
