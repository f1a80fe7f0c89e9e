"""The demo: every stage on a synthetic slide whose truth is known, in a few minutes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari_wsss import __version__
from napari_wsss.cams import PseudoMasks, pseudo_mask_job, pseudo_mask_quality
from napari_wsss.classes import ClassTable
from napari_wsss.errors import OutputError
from napari_wsss.evaluation import Evaluation, write_report
from napari_wsss.files import write_atomic
from napari_wsss.inference import Engine, RunOptions, SlideSegmentation, segment_job
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.models import Classifier, Segmenter, WsssModel
from napari_wsss.patches import CutRules, PatchSet, cut_patches_job
from napari_wsss.samples import SyntheticSlide, synthetic_slide
from napari_wsss.settings import ClassifierSettings, EncoderSettings, SegmenterSettings
from napari_wsss.slides import open_slide
from napari_wsss.training import TrueMasks, classifier_job, segmenter_job
from napari_wsss.workflows.exports import export_result
from napari_wsss.workflows.measure import evaluate_job
from napari_wsss.workflows.report import curves, image_examples, patch_examples
from napari_wsss.workflows.synthetic import (
    PATCH_PX,
    STRIDE_PX,
    index_values,
    region_folders,
    save_regions,
)

__all__ = ["DemoResult", "comparison_row", "demo_job", "run_demo"]

EPOCHS, STEPS, BATCH = 6, 10, 16
_RECORD = "demo.json"
_CLASSIFIER = "classifier.safetensors"
_WEAK, _FULL = "segmenter.safetensors", "fully-supervised.safetensors"


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    table
        One row per method, as in the report.
    report
        The HTML report.
    seconds
        Time of the whole run.
    """

    table: list[dict[str, Any]]
    report: Path
    seconds: float


def run_demo(
    out: str | Path,
    *,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> DemoResult:
    """Run the whole method on synthetic slides and write everything to `out`.

    One slide is cut into patches that keep only *which classes occur in them*; a classifier,
    pseudo masks and a segmenter follow. The same network is trained on the true masks for
    comparison. A second slide is segmented and measured.

    Parameters
    ----------
    out
        Folder of the results.
    seed
        Of slides and training.
    device, overwrite, on_event, cancel
        As in `train_classifier`.

    Raises
    ------
    OutputError
        If `out` holds other things than a demo, or a finished one with another seed and
        `overwrite` is False.

    Notes
    -----
    A finished demo with the same seed is not run again: its result is returned. An
    interrupted one starts anew.
    """
    job = demo_job(Path(out), seed=seed, device=device, overwrite=overwrite, cancel=cancel)
    return run_job(job, on_event)


def demo_job(
    out: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[DemoResult]:
    """Yield the events of `run_demo`, which documents the parameters."""
    began = time.perf_counter()
    cancel = cancel or CancelToken()
    earlier = _earlier(out, seed, overwrite)
    if earlier is not None:
        yield Log(f"This demo was run before; {out} is left as it is (--overwrite runs it anew)")
        return earlier
    yield Log("Drawing two synthetic slides: one to learn from, one to test on")
    lesson = synthetic_slide((2048, 2048), seed=seed)
    exam = synthetic_slide((1024, 1024), seed=seed + 1)
    demo = _Demo(out, index_values(lesson.classes), seed, device, cancel)
    learned = yield from demo.learn(lesson)
    evaluations = yield from demo.measure(learned.methods, exam)
    result = yield from demo.segment(learned.weak)
    table = [comparison_row(name, e) for name, e in evaluations.items()]
    report = demo.report(learned, evaluations, table, result)
    found = DemoResult(table, report, time.perf_counter() - began)
    record = {"seed": seed, "version": __version__, "table": table, "seconds": found.seconds}
    write_atomic(out / _RECORD, json.dumps(record, indent=1).encode())
    return found


@dataclass(frozen=True)
class _Learned:
    """What came of the training slide; `full` was taught by its true masks."""

    patches: PatchSet
    classifier: Classifier
    pseudo: PseudoMasks
    weak: Segmenter
    full: Segmenter

    @property
    def methods(self) -> dict[str, WsssModel]:
        """The models that are compared, by what the report calls them."""
        return {
            "CAM only (patch labels)": self.classifier,
            "napari-wsss (patch labels)": self.weak,
            "same network, true masks": self.full,
        }


@dataclass(frozen=True)
class _Demo:
    """The steps of one run, with what they share."""

    out: Path
    classes: ClassTable
    seed: int
    device: str
    cancel: CancelToken

    def learn(self, slide: SyntheticSlide) -> Job[_Learned]:
        """Cut the training slide into patches, and train all models."""
        out = self.out
        images, masks = save_regions(slide, out / "train")
        rules = CutRules(size_px=PATCH_PX, stride_px=STRIDE_PX, mpp=slide.mpp)
        place = out / "patches"
        patches = yield from cut_patches_job(
            images, masks, self.classes, place, rules, overwrite=True, cancel=self.cancel
        )
        shared: dict[str, Any] = {
            "device": self.device,
            "overwrite": True,
            "cancel": self.cancel,
        }
        # From here to the pseudo masks only the patches' labels are known.
        classifier = yield from classifier_job(
            patches, out / _CLASSIFIER, _classifier_settings(self.seed), **shared
        )
        pseudo = yield from pseudo_mask_job(patches, classifier, out / "pseudo-masks", **shared)
        settings = _segmenter_settings(self.seed)
        weak = yield from segmenter_job(patches, pseudo, out / _WEAK, settings, **shared)
        full = yield from segmenter_job(
            patches, TrueMasks(patches), out / _FULL, settings, **shared
        )
        return _Learned(patches, classifier, pseudo, weak, full)

    def measure(
        self, methods: Mapping[str, WsssModel], slide: SyntheticSlide
    ) -> Job[dict[str, Evaluation]]:
        """Measure the models on the test slide, whose regions are saved for them."""
        images, masks = save_regions(slide, self.out / "test")
        slide.save(self.out / "test" / "slide")
        found: dict[str, Evaluation] = {}
        for name, model in methods.items():
            found[name] = yield from evaluate_job(
                model, images, masks, self.classes, device=self.device, cancel=self.cancel
            )
            found[name].write_json(self.out / "evaluation" / f"{_slug(name)}.json")
        return found

    def segment(self, model: WsssModel) -> Job[SlideSegmentation]:
        """Segment the test slide and export what was found."""
        slide = open_slide(self.out / "test" / "slide" / "slide.tif", name="synthetic")
        place = self.out / "results"
        options = RunOptions(device=self.device, overwrite=True)
        result = yield from segment_job(slide, model, place, options=options, cancel=self.cancel)
        export_result(
            result,
            geojson=place / "synthetic.geojson.gz",
            csv=place / "synthetic.csv",
            min_area_px=16,
            overwrite=True,
        )
        return result

    def report(
        self,
        learned: _Learned,
        evaluations: Mapping[str, Evaluation],
        table: list[dict[str, Any]],
        result: SlideSegmentation,
    ) -> Path:
        """Write the report and return its path."""
        out, patches = self.out, learned.patches
        engines = {n: Engine(model, device=self.device) for n, model in learned.methods.items()}
        images, masks = region_folders(out / "test")
        return write_report(
            out,
            title="napari-wsss demo: from patch labels to a segmented slide",
            classes=self.classes,
            summary=_summary(patches, pseudo_mask_quality(learned.pseudo, patches), result),
            comparison=table,
            evaluations=evaluations,
            examples=[
                *image_examples(engines, images, masks, self.classes, most=3),
                *patch_examples(
                    learned.classifier, patches, learned.pseudo, with_truth=True, most=3
                ),
            ],
            curves=curves(
                {
                    "Classifier": out / _CLASSIFIER,
                    "Segmenter": out / _WEAK,
                    "Fully supervised": out / _FULL,
                }
            ),
            facts={
                "seed": str(self.seed),
                "patches": str(len(patches)),
                "µm/px": f"{patches.mpp:g}",
            },
        )


def comparison_row(name: str, evaluation: Evaluation) -> dict[str, Any]:
    """Return a row of the table that compares methods (fractions)."""
    gate, oracle = evaluation["predicted_gate"], evaluation["oracle_labels"]
    return {
        "method": name,
        "mIoU": gate.scores.miou,
        "mIoU, oracle labels": oracle.scores.miou,
        "FwIoU": gate.scores.fwiou,
        "accuracy": gate.scores.accuracy,
        "mean Dice": gate.scores.mean_dice,
    }


def _classifier_settings(seed: int) -> ClassifierSettings:
    return ClassifierSettings(
        encoder=EncoderSettings(upscale=1.0),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        seed=seed,
    )


def _segmenter_settings(seed: int) -> SegmenterSettings:
    return SegmenterSettings(
        encoder=EncoderSettings(upscale=1.0),
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        batch_size=BATCH,
        seed=seed,
    )


def _summary(patches: PatchSet, quality: Mapping[str, Any], result: SlideSegmentation) -> str:
    masks = quality["depths"][-1]
    areas = ", ".join(
        f"{row['class']} {row['area_mm2']:.3f} mm²"
        for row in result.summary()["classes"]
        if row["area_mm2"] is not None and row["class"] != "background"
    )
    return (
        f"{len(patches)} patches of {PATCH_PX} px were labelled with the classes that occur in "
        f"them ({int(patches.single_label.sum())} hold one class only). From these labels a "
        "classifier was trained, its class activation maps became pseudo masks, and the "
        "segmentation network learned from those. It is measured on another slide, beside the "
        "same network trained on true masks.\n\n"
        f"Pseudo masks of the training patches, which give {quality['kept_share']:.0%} of their "
        f"pixels a class: mIoU {masks['miou']:.3f}, {masks['miou_multi_label']:.3f} on patches "
        "with several classes.\n\n"
        f"Areas on the test slide: {areas}."
    )


def _slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


def _earlier(out: Path, seed: int, overwrite: bool) -> DemoResult | None:
    """Return the result of an earlier run with the same seed; make `out` ready otherwise.

    Raises
    ------
    OutputError
        If `out` holds something else, or a finished demo that differs.
    """
    if not out.exists() or not any(out.iterdir()):
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / _RECORD, json.dumps({"seed": seed}).encode())
        return None
    try:
        record = json.loads((out / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise OutputError(
            f"{out} is not empty and holds no demo. Choose another folder."
        ) from None
    finished = "table" in record
    same = record.get("seed") == seed and record.get("version") == __version__
    if finished and same and not overwrite:
        return DemoResult(record["table"], out / "report.html", float(record["seconds"]))
    if finished and not overwrite:
        raise OutputError(
            f"{out} holds a demo with other settings. Choose another folder, or replace it with "
            "--overwrite."
        )
    return None
