"""All stages from one TOML file, skipping those that are done.

::

    [project]
    dataset = "patches"          # or [cut] below, which makes it
    out = "runs/lung"
    seed = 0
    mpp = 1.0                    # µm/px of the patches, where they do not say
    rounds = 1                   # 2: pseudo masks of the segmenter, too, and another of them
    corrections = "corrections"  # optional: corrected regions with true masks
    unlabelled = "tiles"         # optional: tiles without labels

    [cut]                        # optional: patches from images with masks
    images = "images"
    masks = "masks"
    classes = "classes.toml"
    size_px = 112
    stride_px = 56
    min_share = 0.05

    [classifier]                 # settings of each stage, all optional
    [pseudo_masks]
    [segmenter]
    [inference]

    [evaluate]                   # optional
    images = "test/images"
    masks = "test/masks"

    [slides]                     # optional
    paths = ["slides/a.svs"]
    mpp = 0.25                   # where a slide does not say

Paths are relative to the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_wsss.errors import SettingsError, listed
from napari_wsss.inference import RunOptions, SlideSegmentation, segment_job
from napari_wsss.inference.result import result_path
from napari_wsss.jobs import CancelToken, Event, Job, run_job
from napari_wsss.models import WsssModel
from napari_wsss.patches import CutRules, PatchSet, cut_patches_job, load_patches
from napari_wsss.recipes import RECIPE_STAGES, recipe
from napari_wsss.settings import (
    ClassifierSettings,
    EvaluationSettings,
    InferenceSettings,
    PseudoMaskSettings,
    SegmenterSettings,
)
from napari_wsss.slides import Slide, open_slide
from napari_wsss.training import read_corrections
from napari_wsss.training.loop import fingerprint
from napari_wsss.training.unlabelled import read_unlabelled
from napari_wsss.workflows.exports import export_result
from napari_wsss.workflows.measure import evaluate_job
from napari_wsss.workflows.phases import Besides, phase_one_job, phase_two_job
from napari_wsss.workflows.report import report_evaluation
from napari_wsss.workflows.stages import Stages

__all__ = ["ProjectFile", "project_job", "run_project"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Project(_Part):
    out: Path
    dataset: Path | None = None
    recipe: str | None = None
    seed: int = Field(0, ge=0)
    mpp: float | None = Field(None, gt=0)
    rounds: int | None = Field(None, ge=1, le=10)
    corrections: Path | None = None
    unlabelled: Path | None = None


class _Cut(_Part):
    images: Path
    masks: Path
    classes: Path
    size_px: int = Field(112, ge=8)
    stride_px: int = Field(56, ge=1)
    min_share: float = Field(0.05, ge=0, le=1)
    glass: Literal["auto", "ignore", "tissue"] = "auto"


class _Evaluate(_Part):
    images: Path
    masks: Path
    mpp: float | None = Field(None, gt=0)
    settings: EvaluationSettings = EvaluationSettings()


class _Slides(_Part):
    paths: tuple[Path, ...]
    mpp: float | None = Field(None, gt=0)
    model_mpp: float | None = Field(None, gt=0)


class ProjectFile(_Part):
    """The parsed and validated file; paths are as written."""

    project: _Project
    cut: _Cut | None = None
    classifier: ClassifierSettings = ClassifierSettings()
    pseudo_masks: PseudoMaskSettings = PseudoMaskSettings()
    segmenter: SegmenterSettings = SegmenterSettings()
    inference: InferenceSettings = InferenceSettings()
    evaluate: _Evaluate | None = None
    slides: _Slides | None = None

    @classmethod
    def read(cls, path: Path) -> ProjectFile:
        """Read a project file; SettingsError lists everything that is not understood."""
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"There is no project file {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
        data = _with_recipe(data)
        try:
            file = cls.model_validate(data)
        except ValidationError as error:
            rows = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise SettingsError(f"{path} is not a valid project:{listed(rows)}") from None
        if (file.project.dataset is None) == (file.cut is None):
            raise SettingsError(f"{path}: give either project.dataset or a [cut] section.")
        return file


def _with_recipe(data: dict[str, Any]) -> dict[str, Any]:
    """Put what the file says of the stages over the recipe that it names."""
    project = data.get("project")
    name = project.get("recipe") if isinstance(project, dict) else None
    if not isinstance(name, str):
        return data
    bundle = recipe(name)
    written = {stage: data.get(stage, {}) for stage in RECIPE_STAGES}
    stages = {
        # What is no table is for the validation to refuse.
        stage: bundle.with_values(stage, values) if isinstance(values, dict) else values
        for stage, values in written.items()
    }
    return {**data, **stages}


def run_project(
    path: str | Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Run all stages of a project file; see the module's text for its form.

    Returns
    -------
    dict
        ``stages`` (name -> "done" or "skipped") and, where asked for, ``evaluation`` and
        ``slides``.

    Raises
    ------
    SettingsError
        If the file is not understood.
    WsssError
        Whatever a stage raises; the stages before it stay done.
    """
    job = project_job(Path(path), device=device, overwrite=overwrite, cancel=cancel)
    return run_job(job, on_event)


def project_job(
    path: Path,
    *,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[dict[str, Any]]:
    """Yield the events of `run_project`, which documents the parameters."""
    path = Path(path)
    file = ProjectFile.read(path)
    home = path.resolve().parent
    out = home / file.project.out
    out.mkdir(parents=True, exist_ok=True)
    stages = Stages(out, overwrite)
    run = _Run(file, home, stages, device, cancel)
    patches = yield from run.patches()
    besides = run.besides(patches)  # before hours of training: a folder may be misspelt
    shared: dict[str, Any] = {"device": device, "cancel": cancel}
    seed = {"seed": file.project.seed}
    classifier, chain = yield from phase_one_job(
        stages, patches, file.classifier.changed(**seed), **shared
    )
    model, chain = yield from phase_two_job(
        stages,
        patches,
        classifier,
        chain,
        file.pseudo_masks,
        file.segmenter.changed(**seed),
        file.project.rounds or recipe(file.project.recipe or "default").rounds,
        besides,
        **shared,
    )
    result: dict[str, Any] = {"stages": stages.outcome, "out": str(out)}
    if file.evaluate is not None:
        result["evaluation"] = yield from run.evaluation(file.evaluate, model)
        stages.outcome["evaluate"] = "done"
    if file.slides is not None:
        result["slides"] = yield from run.slides(file.slides, model, chain)
    return result


@dataclass(frozen=True)
class _Run:
    """The stages that only projects have, with what they share."""

    file: ProjectFile
    home: Path
    stages: Stages
    device: str
    cancel: CancelToken | None

    def patches(self) -> Job[PatchSet]:
        """Load the patch set, or cut it first."""
        project, home = self.file.project, self.home
        if self.file.cut is None:
            assert project.dataset is not None
            return load_patches(home / project.dataset, mpp=project.mpp)
        cut, target = self.file.cut, self.stages.out / "patches"
        inputs = home / cut.images, home / cut.masks, home / cut.classes
        rules = CutRules(
            size_px=cut.size_px,
            stride_px=cut.stride_px,
            min_share=cut.min_share,
            glass=cut.glass,
            mpp=project.mpp,
        )
        return (
            yield from self.stages.run(
                "cut",
                fingerprint(cut.model_dump_json(), project.mpp, *map(_listing, inputs)),
                target,
                lambda replace: cut_patches_job(
                    *inputs, target, rules, overwrite=replace, cancel=self.cancel
                ),
                lambda: load_patches(target),
            )
        )

    def besides(self, patches: PatchSet) -> Besides:
        """Read what the segmenter learns from besides pseudo masks."""
        project, home = self.file.project, self.home
        return Besides(
            None if project.corrections is None else read_corrections(home / project.corrections),
            None
            if project.unlabelled is None
            else read_unlabelled(home / project.unlabelled, patches),
        )

    def evaluation(self, part: _Evaluate, model: WsssModel) -> Job[Mapping[str, Any]]:
        """Measure the model and write the report."""
        images, masks, out = self.home / part.images, self.home / part.masks, self.stages.out
        found = yield from evaluate_job(
            model,
            images,
            masks,
            settings=part.settings,
            inference=self.file.inference,
            mpp=part.mpp,
            device=self.device,
            cancel=self.cancel,
        )
        found.write_json(out / "evaluation.json")
        report_evaluation(found, model, images, masks, out, mpp=part.mpp, device=self.device)
        return found.to_dict()

    def slides(self, part: _Slides, model: WsssModel, chain: str) -> Job[dict[str, Any]]:
        """Segment the slides and export what was found; returns their summaries."""
        folder = self.stages.out / "slides"
        summaries: dict[str, Any] = {}
        for source in part.paths:
            slide = open_slide(self.home / source, mpp=part.mpp)
            result = yield from self._slide(slide, part.model_mpp, model, chain)
            export_result(
                result,
                geojson=folder / f"{slide.name}.geojson.gz",
                csv=folder / f"{slide.name}.csv",
                overwrite=True,
            )
            summaries[slide.name] = result.summary()
        return summaries

    def _slide(
        self, slide: Slide, model_mpp: float | None, model: WsssModel, chain: str
    ) -> Job[SlideSegmentation]:
        settings, folder = self.file.inference, self.stages.out / "slides"
        target = result_path(folder, slide.name)

        def make(replace: bool) -> Job[SlideSegmentation]:
            options = RunOptions(model_mpp=model_mpp, device=self.device, overwrite=replace)
            return segment_job(slide, model, folder, settings, options, cancel=self.cancel)

        return (
            yield from self.stages.run(
                f"slide {slide.name}",
                fingerprint(chain, slide.fingerprint, slide.mpp, settings.model_dump_json()),
                target / "run.json",
                make,
                lambda: SlideSegmentation.open(target),
            )
        )


def _listing(path: Path) -> list[tuple[str, int]]:
    """Return names and sizes of the files at `path`: changed inputs are noticed."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return [(f.name, f.stat().st_size) for f in files if f.exists()]
