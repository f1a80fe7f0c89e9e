"""How accurate weak supervision is: every row of the table, cross-validated by image.

    python benchmarks/accuracy.py --data FOLDER --out benchmark-output --table accuracy.md

FOLDER holds ``wsss4luad/images_and_masks/{img,mask}`` and ``glas/{images,masks}``. The
images of a set are divided into folds that hold its classes in equal parts; each fold is
tested by a model of the others, and one confusion matrix counts all images. Patches of the
training images carry labels only: masks of training images reach the rows that say so, and
no run chooses a threshold or an epoch by a mask. Rows share what they have in common
(patches, classifiers, pseudo masks). Interrupt it at any time: finished stages and results
are kept, an unfinished training goes on from its last epoch.

With ``--test FOLDER`` the models are trained on all images of ``--data`` and tested on those
of another folder of the same layout. Its numbers take the place of those of an earlier folder in
one results file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_figure import draw, predicted, pseudo_mask
from accuracy_rows import MIN_SHARE, ROWS, SETS, SIZE_PX, DataSet, Row
from accuracy_table import Results, put_into, render
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

import napari_wsss as wsss
from napari_wsss.cams import pseudo_mask_quality
from napari_wsss.evaluation import ConfusionMatrix
from napari_wsss.inference import Engine
from napari_wsss.inference.gate import allowed_by_labels
from napari_wsss.jobs import EpochEnd
from napari_wsss.models import WsssModel
from napari_wsss.patches import PatchSet, cut_patches
from napari_wsss.settings import InferenceSettings, Settings
from napari_wsss.training import TrueMasks
from napari_wsss.training.unlabelled import unlabelled
from napari_wsss.workflows.measure import predict_image

FOLDS = 2
VERSION = 2  #: of the stages that are kept
MEASURED = 3  #: of what is measured
ALL = "all"  #: trained on every image, tested on other ones


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--test", type=Path, help="images of another folder to test on")
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--results", type=Path, help="by default accuracy.json in --out")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--folds", nargs="+", type=int, default=list(range(FOLDS)))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--only", help="run only keys that begin so, such as glas/0/1")
    parser.add_argument("--table", type=Path, help="Markdown file to write or renew")
    parser.add_argument("--render", action="store_true", help="run nothing, write the table")
    parser.add_argument("--figure", type=Path, metavar="DIR", help="draw test images into DIR")
    args = parser.parse_args()
    results = Results.read(args.results or args.out / "accuracy.json")
    if not args.render:
        folds = [ALL] if args.test else [str(fold) for fold in args.folds]
        for seed in args.seeds:
            for fold in folds:
                for name in args.sets:
                    bench = Bench(name, fold, seed, args.data, args.test, args.out)
                    for row in args.rows:
                        if f"{name}/{fold}/{seed}/{row}".startswith(args.only or ""):
                            bench.run(row, results)
    for name in args.sets if args.figure else ():
        bench = Bench(name, str(args.folds[0]), args.seeds[0], args.data, args.test, args.out)
        bench.draw(args.figure / f"{name}.png")
    table = render(results)
    print(table)
    if args.table:
        put_into(args.table, table)


@dataclass(frozen=True)
class Bench:
    """One set, fold and seed."""

    name: str
    fold: str
    seed: int
    data: Path
    test: Path | None
    out: Path

    @property
    def set(self) -> DataSet:
        """The data set."""
        return SETS[self.name]

    def run(self, key: str, results: Results) -> None:
        """Train and measure a row unless that is done."""
        row, place = ROWS[key], f"{self.name}/{self.fold}/{self.seed}/{key}"
        patches = flipped(self.patches(), row.flipped, self.seed)
        tested = None if self.test is None else listing(self.set, self.test)
        stages = Stages(self.out / self.name, patches, row, self.set, self.seed, tested)
        made = stages.made()
        mark = stages.mark()
        if results.get(place, mark) is not None:
            return
        print(f"{place} ...", flush=True)
        found, seconds, quality = None, {}, None
        for stage in made:
            folder = stages.folder(stage)
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):  # sets and rows may run side by side
                found, spent = stages.make(stage, found)
                seconds[stage.kind + ", again" * (stage.kind in seconds)] = spent
            if stage.kind == "pseudo masks":
                quality = stages.quality(stage, found)
        counts = self.measure(found, row)
        entry = {"mark": mark, "patches": len(patches), "seconds": seconds, "counts": counts}
        if quality is not None:
            entry["quality"] = quality
        results.put(place, entry)
        print(f"{place}: mIoU {100 * results.miou([place]):.2f}", flush=True)

    def draw(self, path: Path, most: int = 4) -> None:
        """Draw some test images with what the finished rows find in them."""
        every, patches = replace(self, fold=ALL).patches(), self.patches()
        lines: list[tuple[NDArray[np.uint8], dict[str, NDArray[Any]]]] = []
        tested = self.images()
        for path_ in tested[:: max(1, len(tested) // most)][:most]:
            image = np.asarray(Image.open(path_).convert("RGB"))
            truth = self.set.classes.to_indices(read_mask(self.set, self.test or self.data, path_))
            masks: dict[str, NDArray[Any]] = {"truth": truth}
            for key in ("cam", "mlps", "default", "full"):
                stages = Stages(self.out / self.name, patches, ROWS[key], self.set, self.seed)
                made = stages.made()
                if not all((stages.folder(stage) / "seconds.json").exists() for stage in made):
                    continue
                if len(made) == 3 and self.test is None:
                    classifier = stages.make(made[0], None)[0]
                    masks[f"pseudo mask ({key})"] = pseudo_mask(
                        every, path_.stem, truth.shape, classifier, made[1].settings
                    )
                masks[key] = predicted(stages.make(made[-1], None)[0], image)
            lines.append((image, masks))
        draw(lines, self.set.classes, path)

    def patches(self) -> PatchSet:
        """Return the patches of the training images, cut once for all folds."""
        # By the images' names and sizes, so that other data in the same place are cut anew.
        target = self.out / self.name / f"patches-{listing(self.set, self.data)}"
        if (target / "dataset.toml").exists():
            patches = wsss.load_patches(target)
        else:
            patches = cut_patches(
                self.data / self.set.images,
                self.data / self.set.masks,
                self.set.classes,
                target,
                size_px=SIZE_PX,
                stride_px=self.set.stride_px,
                min_share=MIN_SHARE,
            )
        if self.fold == ALL:
            return patches
        tested = {path.stem for path in self.images()}
        return patches.subset(np.array([group not in tested for group in patches.groups]))

    def images(self) -> list[Path]:
        """Return the test images."""
        if self.test is not None:
            return sorted((self.test / self.set.images).glob("*.png"))
        return folds_of(self.set, self.data)[int(self.fold)]

    def measure(self, model: WsssModel, row: Row) -> dict[str, list[list[int]]]:
        """Return the confusion counts of every test image, under both protocols."""
        how = InferenceSettings(precision="fp32", gate=row.gate, **row.inference)
        engine = Engine(model, how, device="cpu", flips=row.flips)
        side, k = model.info.patch_size_px, len(self.set.classes)
        counts: dict[str, list[list[int]]] = {"predicted_gate": [], "oracle_labels": []}
        for path in self.images():
            truth = self.set.classes.to_indices(read_mask(self.set, self.test or self.data, path))
            image = np.asarray(Image.open(path).convert("RGB"))
            prediction = predict_image(engine, image, side, model.mpp)
            oracle = allowed_by_labels(truth, k, side, 0.0)
            for protocol, allowed in (("predicted_gate", None), ("oracle_labels", oracle)):
                matrix = ConfusionMatrix(k).update(truth, prediction.labels(allowed))
                counts[protocol].append(matrix.counts.ravel().tolist())
        return counts


def listing(data: DataSet, root: Path) -> str:
    """Return what identifies the images and masks of a set below a folder."""
    files = [f for part in (data.images, data.masks) for f in sorted((root / part).glob("*.png"))]
    names = [(f.parent.name, f.name, f.stat().st_size) for f in files]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]


def flipped(patches: PatchSet, share: float, seed: int) -> PatchSet:
    """Return a set in which a share of the labels is wrong; every patch keeps one at least."""
    if share == 0:
        return patches
    wrong = np.random.default_rng(seed).random(patches.labels.shape) < share
    labels = patches.labels ^ wrong
    return replace(patches, labels=np.where(labels.any(1, keepdims=True), labels, patches.labels))


def folds_of(data: DataSet, root: Path) -> list[list[Path]]:
    """Divide the images of a set into `FOLDS` parts that hold its classes in equal parts.

    The images that hold the rarest class are dealt first, those with most of it first, each
    to the fold that has least of that class; then those of the next class. No chance is
    involved.
    """
    k = len(data.classes)
    paths = sorted((root / data.images).glob("*.png"))
    truths = (data.classes.to_indices(read_mask(data, root, path)) for path in paths)
    counts = np.array([np.bincount(truth[truth < k], minlength=k) for truth in truths])
    present = counts >= MIN_SHARE * counts.sum(1, keepdims=True)
    folds: list[list[Path]] = [[] for _ in range(FOLDS)]
    of_class = np.zeros((FOLDS, k), np.int64)
    left = set(range(len(paths)))
    for c in counts.sum(0).argsort(kind="stable"):
        for i in sorted((i for i in left if present[i, c]), key=lambda i: (-counts[i, c], i)):
            fold = int(np.lexsort((of_class.sum(1), of_class[:, c]))[0])
            folds[fold].append(paths[i])
            of_class[fold] += counts[i]
            left.remove(i)
    return [sorted(fold) for fold in folds]


def read_mask(data: DataSet, root: Path, image: Path) -> NDArray[np.uint8]:
    """Return the mask values of an image, (H, W)."""
    return np.asarray(Image.open(root / data.masks / image.name))


@dataclass(frozen=True)
class Stage:
    """Something that is trained or generated once and shared by rows."""

    kind: str
    settings: Settings
    inputs: tuple[str, ...]

    def made_from(self) -> dict[str, Any]:
        """Return what it depends on, as plain data."""
        return {
            "version": VERSION,
            "kind": self.kind,
            "settings": self.settings.model_dump(mode="json"),
            "inputs": list(self.inputs),
        }


class Stages:
    """The stages of a row, kept in folders with what they were made from.

    Parameters
    ----------
    root
        Folder of the set.
    patches
        The training patches, with masks.
    row, data, seed
        What is trained, with the budget of which set.
    tested
        What identifies the test images, if they are those of another folder.
    """

    def __init__(
        self,
        root: Path,
        patches: PatchSet,
        row: Row,
        data: DataSet,
        seed: int,
        tested: str | None = None,
    ):
        self.root, self.data, self.tested = root / "stages", data, tested
        self.patches, self.row, self.seed = patches, row, seed
        self.unmasked = replace(patches, masks=None)  # so that no weak row can look
        rng = np.random.default_rng(seed)
        images = rng.permutation(sorted(set(patches.groups)))[: row.true_masks]
        self.masked = np.isin(patches.groups, images)

    def made(self) -> list[Stage]:
        """Return the stages of the row, each made from the one before."""
        settings, first = self.row.settings(self.data, self.seed), self.patches.fingerprint
        if self.row.targets == "true masks":
            return [Stage("segmenter", settings.segmenter, (first, "true masks"))]
        besides = [f"{self.row.true_masks} true masks"] if self.row.true_masks else []
        if self.row.unlabelled:
            return [Stage("segmenter", settings.segmenter, (first, *besides, "unlabelled"))]
        stages = [Stage("classifier", settings.classifier, (first,))]
        if self.row.model == "classifier":
            return stages
        stages.append(Stage("pseudo masks", settings.pseudo_masks, (self.folder(stages[0]).name,)))
        last = (self.folder(stages[1]).name, *besides)
        stages.append(Stage("segmenter", settings.segmenter, last))
        if self.row.second_round is not None:
            how = settings.pseudo_masks.changed(method="segmenter", **self.row.second_round)
            stages.append(Stage("pseudo masks", how, (self.folder(stages[2]).name,)))
            last = (self.folder(stages[3]).name, *besides)
            stages.append(Stage("segmenter", settings.segmenter, last))
        return stages

    def mark(self) -> str:
        """Return what identifies a measurement, wherever its stages are kept.

        Settings that are the defaults are left out, so that one which did not exist when a row
        was measured does not call for measuring it again. Raise `VERSION` when a default of
        a stage changes its meaning, `MEASURED` when one of measuring does.
        """
        made = self.made()
        parts = [
            MEASURED,
            self.patches.fingerprint,
            [(s.kind, s.settings.model_dump(mode="json", exclude_defaults=True)) for s in made],
            [self.row.true_masks, self.row.unlabelled, self.row.gate, self.row.flips],
        ]
        # What did not exist when earlier rows were measured stays out of their marks.
        if self.row.inference:
            parts.append(dict(self.row.inference))
        if self.tested is not None:
            parts.append(self.tested)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def folder(self, stage: Stage) -> Path:
        """Return the folder of a stage: an earlier one of the same inputs, or a new one.

        A setting that did not exist when an earlier stage was made had what is its default
        now, so the stage need not be made again.
        """
        wanted = stage.made_from()
        defaults = _defaults(type(stage.settings))
        for record in sorted(self.root.glob("*/made_from.json")):
            there = json.loads(record.read_text())
            same = all(there.get(key) == wanted[key] for key in ("version", "kind", "inputs"))
            if same and _same(there["settings"], wanted["settings"], defaults):
                return record.parent
        text = json.dumps(wanted, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self.root / f"{stage.kind.replace(' ', '-')}-{name}"

    def make(self, stage: Stage, before: Any) -> tuple[Any, dict[str, float]]:
        """Return the finished stage and the seconds it took, by clock and by processor."""
        folder = self.folder(stage)
        done = folder / "seconds.json"
        if done.exists():
            return self._load(stage, folder), json.loads(done.read_text())
        (folder / "made_from.json").write_text(json.dumps(stage.made_from(), indent=1))
        wall, processor = time.perf_counter(), time.process_time()
        found = self._make(stage, folder, before)
        spent = {
            "wall": time.perf_counter() - wall,
            "processor": time.process_time() - processor,
        }
        done.write_text(json.dumps(spent))
        return found, spent

    def _make(self, stage: Stage, folder: Path, before: Any) -> Any:
        out = folder / "model.safetensors"
        if stage.kind == "pseudo masks":
            how: dict[str, Any] = {"device": "cpu", "overwrite": True}
            return wsss.generate_pseudo_masks(
                self.unmasked, before, folder / "masks", stage.settings, **how
            )
        how = {"device": "cpu", "overwrite": True, "on_event": show}
        if stage.kind == "classifier":
            return wsss.train_classifier(self.unmasked, out, stage.settings, **how)
        if self.row.targets == "true masks":
            targets = TrueMasks(self.patches)
            return wsss.train_segmenter(self.patches, targets, out, stage.settings, **how)
        masked, others = self.patches.subset(self.masked), self.unmasked.subset(~self.masked)
        if self.row.unlabelled:
            how["unlabelled"] = unlabelled(others)
            return wsss.train_segmenter(masked, TrueMasks(masked), out, stage.settings, **how)
        if self.row.true_masks:
            how["corrections"] = masked
        return wsss.train_segmenter(others, before, out, stage.settings, **how)

    def _load(self, stage: Stage, folder: Path) -> Any:
        loaders: dict[str, Callable[[], Any]] = {
            "classifier": lambda: wsss.load_classifier(folder / "model.safetensors"),
            "pseudo masks": lambda: wsss.PseudoMasks(folder / "masks"),
            "segmenter": lambda: wsss.load_segmenter(folder / "model.safetensors"),
        }
        return loaders[stage.kind]()

    def quality(self, stage: Stage, pseudo: wsss.PseudoMasks) -> dict[str, Any]:
        """Measure pseudo masks, which chooses nothing, once."""
        kept = self.folder(stage) / "quality.json"
        if not kept.exists():
            kept.write_text(json.dumps(pseudo_mask_quality(pseudo, self.patches)))
        return json.loads(kept.read_text())


def _defaults(model: type[Settings]) -> dict[str, Any]:
    return {
        name: field.default.model_dump(mode="json")
        if isinstance(field.default, Settings)
        else field.default
        for name, field in model.model_fields.items()
    }


def _same(there: Any, wanted: Any, default: Any) -> bool:
    """Whether settings of an earlier version mean the same as `wanted`."""
    if not isinstance(wanted, dict):
        return json.dumps(there) == json.dumps(wanted)
    if not isinstance(there, dict) or set(there) - set(wanted):
        return False
    inner = default if isinstance(default, dict) else {}
    return all(
        _same(there.get(key, inner.get(key)), value, inner.get(key))
        for key, value in wanted.items()
    )


def show(event: object) -> None:
    if isinstance(event, EpochEnd):
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in event.metrics.items())
        print(f"  epoch {event.epoch}/{event.epochs}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
