"""The benchmarks of the field: from a released data set to the table of the papers.

LUAD-HistoSeg (Han et al. 2022, Medical Image Analysis 80, 102487) and BCSS-WSSS (the same
authors, from Amgad et al. 2019): patches whose labels stand in their names to train on,
images with masks to test on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from napari_wsss.errors import DataError, SettingsError, listed
from napari_wsss.files import check_writable, write_atomic
from napari_wsss.jobs import CancelToken, Event, Job, Log, run_job
from napari_wsss.models import WsssModel
from napari_wsss.patches import PatchSet, load_patches
from napari_wsss.recipes import Recipe, recipe
from napari_wsss.settings import EvaluationSettings
from napari_wsss.training.loop import fingerprint
from napari_wsss.workflows.measure import evaluate_job
from napari_wsss.workflows.phases import phase_one_job, phase_two_job
from napari_wsss.workflows.stages import Stages

__all__ = ["BENCHMARKS", "BenchmarkResult", "benchmark_job", "run_benchmark"]

#: Names of the sets, which are also formats of `load_patches`.
BENCHMARKS = ("luad-histoseg", "bcss-wsss")
_PROTOCOLS = {"predicted_gate": "predicted gate", "oracle_labels": "oracle labels"}
_METRICS = {"miou": "mIoU", "fwiou": "FwIoU", "accuracy": "accuracy", "mean_dice": "Dice"}


@dataclass(frozen=True)
class BenchmarkResult:
    """What was measured.

    Attributes
    ----------
    name, split
        The set, and which of its splits was tested.
    evaluations
        `Evaluation.to_dict` of each method: ``"CAM only"`` and ``"both phases"``.
    stages
        What became of each stage: ``"done"`` or ``"skipped"``.
    out
        Folder of the models, ``benchmark.json`` and ``benchmark.md``.
    """

    name: str
    split: str
    evaluations: Mapping[str, Mapping[str, Any]]
    stages: Mapping[str, str]
    out: Path

    @property
    def table(self) -> list[dict[str, str]]:
        """One row per method and protocol; percent, a dash for what is not defined."""
        rows = []
        for method, found in self.evaluations.items():
            for protocol, words in _PROTOCOLS.items():
                scores = found["protocols"][protocol]
                row = {"method": method, "protocol": words}
                row |= {f"IoU {name}": _percent(iou) for name, iou in scores["iou"].items()}
                row |= {label: _percent(scores[key]) for key, label in _METRICS.items()}
                rows.append(row)
        return rows

    def to_markdown(self) -> str:
        """Return the table, and under which conditions it holds."""
        rows = self.table
        lines = [f"| {' | '.join(rows[0])} |", f"|{'---|' * len(rows[0])}"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
        c = next(iter(self.evaluations.values()))["conditions"]
        lines += [
            "",
            f"{self.name}, split {self.split}: {c['images']} images, one confusion matrix over "
            "all pixels, ignored ones left out. *Predicted gate* knows nothing but the image; "
            "*oracle labels* is given the classes that occur in it. Test-time flips: "
            f"{'yes' if c['test_time_flips'] else 'no'}.",
        ]
        return "\n".join(lines) + "\n"


def run_benchmark(
    name: str,
    folder: str | Path,
    out: str | Path,
    settings: str | Recipe = "default",
    *,
    split: Literal["val", "test"] = "test",
    seed: int = 0,
    evaluation: EvaluationSettings | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> BenchmarkResult:
    """Train on a released set by its patch labels and measure on its masks.

    The training masks do not exist, and those of the other splits are read for measuring
    only: held-out patches come from the training split, whole slides at a time.

    Parameters
    ----------
    name
        One of `BENCHMARKS`.
    folder
        The set as it was downloaded: ``train/`` with labels in the names, ``val/`` and
        ``test/`` with ``img/`` and ``mask/``.
    out
        Folder for models and tables; stages that are done there are not done again.
    settings
        Name of a recipe, or a `Recipe`.
    split
        What is measured on; the other split is not read.
    seed
        Of all random choices.
    evaluation
        Intervals and test-time flips.
    device, overwrite, on_event, cancel
        As everywhere.

    Returns
    -------
    BenchmarkResult
        Also written to ``benchmark.json`` and ``benchmark.md``.

    Raises
    ------
    DataError
        If the folder is not the set, or a split or masks are missing.
    OutputError
        If a stage was done there with other data or settings, without `overwrite`.
    """
    job = benchmark_job(
        name,
        folder,
        Path(out),
        settings,
        split=split,
        seed=seed,
        evaluation=evaluation,
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def benchmark_job(
    name: str,
    folder: str | Path,
    out: Path,
    settings: str | Recipe = "default",
    *,
    split: Literal["val", "test"] = "test",
    seed: int = 0,
    evaluation: EvaluationSettings | None = None,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[BenchmarkResult]:
    """Yield the events of `run_benchmark`, which documents the parameters."""
    if name not in BENCHMARKS:
        raise SettingsError(f"There is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}.")
    bundle = recipe(settings) if isinstance(settings, str) else settings
    evaluation = evaluation or EvaluationSettings()
    train = _part(name, folder, "train")
    tested = _tested(name, folder, split)
    check_writable(out / "stages.json")
    stages = Stages(out, overwrite)
    yield Log(f"{name}: {len(train)} patches to train on, {len(tested[0])} images to test on")
    shared: dict[str, Any] = {"device": device, "cancel": cancel}
    classifier, chain = yield from phase_one_job(
        stages, train, bundle.classifier.changed(seed=seed), (name,), **shared
    )
    measured = _Measuring(stages, tested, train, evaluation, split, shared)
    cams = yield from measured.run("CAM only", classifier, chain)
    model, chain = yield from phase_two_job(
        stages,
        train,
        classifier,
        chain,
        bundle.pseudo_masks,
        bundle.segmenter.changed(seed=seed),
        bundle.rounds,
        **shared,
    )
    both = yield from measured.run("both phases", model, chain)

    found = {"CAM only": cams, "both phases": both}
    result = BenchmarkResult(name, split, found, stages.outcome, out)
    record = {"benchmark": name, "split": split, "seed": seed, "table": result.table, **found}
    write_atomic(out / "benchmark.json", json.dumps(record, indent=1).encode())
    write_atomic(out / "benchmark.md", result.to_markdown().encode())
    return result


@dataclass(frozen=True)
class _Measuring:
    """Measures models on the tested images, each once."""

    stages: Stages
    tested: tuple[list[Path], list[Path]]
    train: PatchSet
    settings: EvaluationSettings
    split: str
    shared: dict[str, Any]

    def run(self, method: str, model: WsssModel, chain: str) -> Job[dict[str, Any]]:
        """Return the evaluation as plain data, of an earlier run if there is one."""
        images, masks = self.tested
        stem = method.lower().replace(" ", "-")
        file = self.stages.out / f"{stem}-{self.split}.json"
        mark = fingerprint(chain, _listing(self.tested), self.settings.model_dump_json())
        return (
            yield from self.stages.run(
                f"{method} on {self.split}",
                mark,
                file,
                lambda _: self._evaluated(model, images, masks, file),
                lambda: json.loads(file.read_text("utf-8")),
            )
        )

    def _evaluated(
        self, model: WsssModel, images: Sequence[Path], masks: Sequence[Path], file: Path
    ) -> Job[dict[str, Any]]:
        found = yield from evaluate_job(
            model, images, masks, self.train.classes, self.settings, **self.shared
        )
        found.write_json(file)
        return json.loads(file.read_text("utf-8"))


def _part(name: str, folder: str | Path, split: str) -> PatchSet:
    """Load a split of the set; DataError where that is not what the folder holds."""
    patches = load_patches(folder, split=split, format=name)
    if patches.format != name:
        raise DataError(f"{folder} is no {name} set.")
    return patches


def _tested(name: str, folder: str | Path, split: str) -> tuple[list[Path], list[Path]]:
    """Return the images of a split and their masks, of the same names."""
    part = _part(name, folder, split)
    masks = part.masks or (None,) * len(part)
    missing = [image for image, mask in zip(part.paths, masks, strict=True) if mask is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(part)} images of the split {split!r} have no mask of the "
            f"same name in {split}/mask:{listed(missing)}"
        )
    return list(part.paths), [mask for mask in masks if mask is not None]


def _listing(files: tuple[list[Path], list[Path]]) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_size) for part in files for path in part]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"
