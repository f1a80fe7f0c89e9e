"""The two phases of weak supervision as stages of a longer piece of work."""

from __future__ import annotations

from typing import Any

from napari_wsss.cams import PseudoMasks, pseudo_mask_job
from napari_wsss.jobs import Job
from napari_wsss.models import Classifier, Segmenter, load_classifier, load_segmenter
from napari_wsss.patches import PatchSet
from napari_wsss.settings import ClassifierSettings, PseudoMaskSettings, SegmenterSettings
from napari_wsss.training import classifier_job, segmenter_job
from napari_wsss.training.loop import fingerprint
from napari_wsss.workflows.stages import Stages

__all__ = ["phase_one_job", "phase_two_job"]


def phase_one_job(
    stages: Stages,
    patches: PatchSet,
    settings: ClassifierSettings,
    begun: tuple[Any, ...] = (),
    **shared: Any,
) -> Job[tuple[Classifier, str]]:
    """Train the classifier, or load it where that was done, as a job.

    Parameters
    ----------
    stages
        Of the folder; the model is its ``classifier.safetensors``.
    patches, settings
        What it is trained on, and how.
    begun
        What else the stage depends on.
    **shared
        ``device`` and ``cancel``, as of `classifier_job`.

    Returns
    -------
    tuple[Classifier, str]
        And the mark of everything that it depends on.
    """
    mark = fingerprint(*begun, patches.fingerprint, patches.mpp, settings.model_dump_json())
    path = stages.out / "classifier.safetensors"
    classifier = yield from stages.run(
        "classifier",
        mark,
        path,
        lambda replace: classifier_job(patches, path, settings, overwrite=replace, **shared),
        lambda: load_classifier(path),
    )
    return classifier, mark


def phase_two_job(
    stages: Stages,
    patches: PatchSet,
    classifier: Classifier,
    mark: str,
    pseudo_masks: PseudoMaskSettings,
    segmenter: SegmenterSettings,
    rounds: int = 1,
    **shared: Any,
) -> Job[tuple[Segmenter, str]]:
    """Make the pseudo masks and train the segmenter on them, where that is not done, as a job.

    Parameters
    ----------
    stages
        Of the folder; results are its ``pseudo-masks`` and ``segmenter.safetensors``, of later
        rounds ``pseudo-masks-2``, ``segmenter-2.safetensors`` and so on.
    patches, classifier, mark
        Of `phase_one_job`.
    pseudo_masks, segmenter
        Settings.
    rounds
        How often both is done: after the first time the masks are the segmenter's.
    **shared
        As there.

    Returns
    -------
    tuple[Segmenter, str]
        That of the last round, and the mark of everything that it depends on.
    """
    maker: Classifier | Segmenter = classifier
    for number in range(1, rounds + 1):
        maker, mark = yield from _round_job(
            stages, patches, maker, mark, pseudo_masks, segmenter, number, **shared
        )
    assert isinstance(maker, Segmenter)
    return maker, mark


def _round_job(
    stages: Stages,
    patches: PatchSet,
    maker: Classifier | Segmenter,
    mark: str,
    pseudo_masks: PseudoMaskSettings,
    segmenter: SegmenterSettings,
    number: int,
    **shared: Any,
) -> Job[tuple[Segmenter, str]]:
    """Make the pseudo masks and train the segmenter of one round, as a job."""
    again = "" if number == 1 else f"-{number}"
    how = pseudo_masks if number == 1 else pseudo_masks.changed(method="segmenter")
    mark = fingerprint(mark, how.model_dump_json())
    folder = stages.out / f"pseudo-masks{again}"
    pseudo = yield from stages.run(
        folder.name,
        mark,
        folder / "pseudo_masks.json",
        lambda replace: pseudo_mask_job(patches, maker, folder, how, overwrite=replace, **shared),
        lambda: PseudoMasks(folder),
    )
    mark = fingerprint(mark, segmenter.model_dump_json())
    path = stages.out / f"segmenter{again}.safetensors"
    model = yield from stages.run(
        path.stem,
        mark,
        path,
        lambda replace: segmenter_job(
            patches, pseudo, path, segmenter, overwrite=replace, **shared
        ),
        lambda: load_segmenter(path),
    )
    return model, mark
