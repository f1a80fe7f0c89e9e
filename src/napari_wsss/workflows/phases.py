"""The two phases of weak supervision as stages of a longer piece of work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from napari_wsss.cams import PseudoMasks, pseudo_mask_job
from napari_wsss.jobs import Job
from napari_wsss.models import Classifier, Segmenter, load_classifier, load_segmenter
from napari_wsss.patches import PatchSet
from napari_wsss.settings import ClassifierSettings, PseudoMaskSettings, SegmenterSettings
from napari_wsss.training import classifier_job, segmenter_job
from napari_wsss.training.loop import fingerprint
from napari_wsss.training.targets import MixedTargets
from napari_wsss.workflows.stages import Stages

__all__ = ["Besides", "phase_one_job", "phase_two_job"]


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


@dataclass(frozen=True)
class Besides:
    """What a segmenter learns from besides pseudo masks.

    Attributes
    ----------
    corrections
        Patches with true masks, as `read_corrections` returns them.
    unlabelled
        Tiles without labels, as `read_unlabelled` returns them.
    """

    corrections: PatchSet | None = None
    unlabelled: PatchSet | None = None

    def marks(self, pseudo: PseudoMasks) -> list[str]:
        """Return what identifies it; corrections by the content of their masks."""
        found = []
        if self.corrections is not None:
            found.append(MixedTargets(pseudo, self.corrections).fingerprint)
        if self.unlabelled is not None:
            found.append(self.unlabelled.fingerprint)
        return found


def phase_two_job(
    stages: Stages,
    patches: PatchSet,
    classifier: Classifier,
    mark: str,
    pseudo_masks: PseudoMaskSettings,
    segmenter: SegmenterSettings,
    rounds: int = 1,
    besides: Besides | None = None,
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
    besides
        What else the segmenter learns from.
    **shared
        As there.

    Returns
    -------
    tuple[Segmenter, str]
        That of the last round, and the mark of everything that it depends on.
    """
    run = _Rounds(stages, patches, pseudo_masks, segmenter, besides or Besides(), shared)
    model, mark = yield from run.job(1, classifier, mark)
    for number in range(2, rounds + 1):
        model, mark = yield from run.job(number, model, mark)
    return model, mark


@dataclass(frozen=True)
class _Rounds:
    """Pseudo masks and a segmenter of them, once or more often."""

    stages: Stages
    patches: PatchSet
    pseudo_masks: PseudoMaskSettings
    segmenter: SegmenterSettings
    besides: Besides
    shared: Mapping[str, Any]

    def job(
        self, number: int, maker: Classifier | Segmenter, mark: str
    ) -> Job[tuple[Segmenter, str]]:
        """Make the pseudo masks by `maker`, and train the segmenter of round `number`."""
        again = "" if number == 1 else f"-{number}"
        how = self.pseudo_masks if number == 1 else self.pseudo_masks.changed(method="segmenter")
        mark = fingerprint(mark, how.model_dump_json())
        folder = self.stages.out / f"pseudo-masks{again}"
        pseudo = yield from self.stages.run(
            folder.name,
            mark,
            folder / "pseudo_masks.json",
            lambda replace: pseudo_mask_job(
                self.patches, maker, folder, how, overwrite=replace, **self.shared
            ),
            lambda: PseudoMasks(folder),
        )
        mark = fingerprint(mark, self.segmenter.model_dump_json(), *self.besides.marks(pseudo))
        path = self.stages.out / f"segmenter{again}.safetensors"
        model = yield from self.stages.run(
            path.stem,
            mark,
            path,
            lambda replace: segmenter_job(
                self.patches,
                pseudo,
                path,
                self.segmenter,
                corrections=self.besides.corrections,
                unlabelled=self.besides.unlabelled,
                overwrite=replace,
                **self.shared,
            ),
            lambda: load_segmenter(path),
        )
        return model, mark
