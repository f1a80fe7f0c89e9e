"""Does pretraining on tiles without labels help phase 1? With few labels, and with all.

    python benchmarks/pretrain.py --data FOLDER --out benchmark-output --table pretrain.md

FOLDER holds ``wsss4luad/images_and_masks/{img,mask}`` (or ``glas``). One fold of its images
is tested; the encoder is pretrained on the patches of the others, without their labels, and
phase 1 learns from a share of their labels, from the ImageNet weights or from the
pretrained ones. Everything else is the same on every row. Masks of training images reach no
training; nothing is chosen by a test image. Interrupt it at any time: finished stages are
kept, an unfinished training goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from accuracy import folds_of
from accuracy_rows import MIN_SHARE, SETS, SIZE_PX

import napari_wsss as wsss
from napari_wsss.evaluation.multilabel import multilabel_scores
from napari_wsss.jobs import EpochEnd, Log
from napari_wsss.patches import PatchSet, cut_patches
from napari_wsss.settings import ClassifierSettings, EncoderSettings, PretrainSettings
from napari_wsss.training.batches import PatchLoader
from napari_wsss.training.classifier import predict_labels
from napari_wsss.training.pretrain import pretrain_encoder

EPOCHS, STEPS = 8, 10
PRETRAINING = {"epochs": 10, "steps_per_epoch": 15}
METHODS = ("none", "simclr", "byol", "patches")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--set", choices=SETS, default="wsss4luad")
    parser.add_argument("--fold", type=int, default=0, help="of the images, which is tested")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["none", "simclr"])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.05, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    bench = Bench(args.set, args.fold, args.data, args.out / f"pretrain-{args.set}-{args.fold}")
    for seed in args.seeds:
        for share in args.shares:
            for method in args.methods:
                bench.run(method, share, seed)
    table = render(bench.results())
    print(table)
    if args.table:
        args.table.write_text(table, encoding="utf-8")


@dataclass(frozen=True)
class Bench:
    """One set and fold; its files lie in `out`."""

    name: str
    fold: int
    data: Path
    out: Path

    def run(self, method: str, share: float, seed: int) -> None:
        """Train and measure one row unless that is done."""
        key = f"{method}/{share:g}/{seed}"
        results = self.results()
        if key in results:
            return
        patches = replace(some(self.patches("train"), share, seed), masks=None)
        print(f"{key}: {len(patches)} labelled patches", flush=True)
        encoder = EncoderSettings()
        if method != "none":
            encoder = encoder.changed(weights=str(self.pretrained(method, seed)))
        # Nothing is held out of so few patches: the last epoch is kept on every row.
        settings = ClassifierSettings(
            encoder=encoder,
            epochs=EPOCHS,
            steps_per_epoch=STEPS,
            validation_share=0,
            seed=seed,
            precision="fp32",
        )
        out = self.out / f"classifier-{key.replace('/', '-')}.safetensors"
        began = time.process_time()
        how: dict[str, Any] = {"device": "cpu", "overwrite": True, "on_event": show}
        model = wsss.train_classifier(patches, out, settings, **how)
        seconds = time.process_time() - began
        test = self.patches("test")
        found = predict_labels(model, PatchLoader(test), torch.device("cpu"), "fp32")
        scores = multilabel_scores(test.labels, found, test.classes.names)
        images, masks = self.images("test"), self.data / SETS[self.name].masks
        measured = wsss.evaluate(model, images, masks, SETS[self.name].classes, device="cpu")
        results[key] = {
            "patches": len(patches),
            "seconds": seconds,
            "map": scores.mean_ap,
            "ap": dict(scores.ap),
            **{p: measured[p].scores.miou for p in ("predicted_gate", "oracle_labels")},
        }
        (self.out / "results.json").write_text(json.dumps(results, indent=1))
        row = results[key]
        print(f"{key}: mAP {row['map']:.4f}, CAM mIoU {row['predicted_gate']:.4f}", flush=True)

    def results(self) -> dict[str, Any]:
        """Return the finished rows."""
        file = self.out / "results.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def images(self, part: str) -> list[Path]:
        """Return the images that are tested, or the others."""
        folds = folds_of(SETS[self.name], self.data)
        rest = [path for i, fold in enumerate(folds) if i != self.fold for path in fold]
        return folds[self.fold] if part == "test" else rest

    def patches(self, part: str) -> PatchSet:
        """Return the patches of a part of the images, cut once."""
        data, target = SETS[self.name], self.out / f"patches-{part}"
        if (target / "dataset.toml").exists():
            return wsss.load_patches(target)
        return cut_patches(
            self.images(part),
            self.data / data.masks,
            data.classes,
            target,
            size_px=SIZE_PX,
            stride_px=data.stride_px,
            min_share=MIN_SHARE,
        )

    def pretrained(self, method: str, seed: int) -> Path:
        """Return encoder weights from the training patches without labels, made once."""
        out = self.out / f"encoder-{method}-{seed}.safetensors"
        if not out.exists():
            settings = PretrainSettings(method=method, tile_px=SIZE_PX, seed=seed, **PRETRAINING)
            began = time.process_time()
            pretrain_encoder(self.patches("train"), out, settings, device="cpu", on_event=show)
            out.with_suffix(".seconds").write_text(str(time.process_time() - began))
        return out


def some(patches: PatchSet, share: float, seed: int) -> PatchSet:
    """Return a share of the patches at random, with some of every class."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(patches))
    wanted = max(round(share * len(patches)), 1)
    first = [i for k in range(len(patches.classes)) for i in order[patches.labels[order, k]][:4]]
    chosen = list(dict.fromkeys([*first, *order]))[:wanted]
    return patches.subset(np.sort(chosen))


def show(event: object) -> None:
    if isinstance(event, EpochEnd):
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in event.metrics.items())
        print(f"  epoch {event.epoch}/{event.epochs}: {numbers}", flush=True)
    elif isinstance(event, Log):
        print(f"  {event.message}", flush=True)


def render(results: dict[str, Any]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| labels | patches | encoder begins from | mAP on test patches (seeds) "
        "| mIoU of the CAMs on test images (seeds) | with oracle labels |",
        "|---|---|---|---|---|---|",
    ]
    names = {"none": "ImageNet"}
    for share in sorted({key.split("/")[1] for key in results}, key=float):
        for method in METHODS:
            rows = [v for k, v in sorted(results.items()) if k.startswith(f"{method}/{share}/")]
            if not rows:
                continue
            cells = [_cell([row[name] for row in rows]) for name in ("map", "predicted_gate")]
            lines.append(
                f"| {float(share):.0%} | {rows[0]['patches']} | {names.get(method, method)} "
                f"| {cells[0]} | {cells[1]} "
                f"| {100 * mean(row['oracle_labels'] for row in rows):.1f} |"
            )
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    seeds = " / ".join(f"{100 * value:.1f}" for value in values)
    return f"**{100 * mean(values):.1f}** ({seeds})"


if __name__ == "__main__":
    main()
