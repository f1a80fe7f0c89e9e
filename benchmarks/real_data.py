"""Weak supervision against CAM-only and full supervision, on real tissue.

    python benchmarks/real_data.py --data FOLDER --out benchmark-output --seeds 0 1

FOLDER holds ``wsss4luad/images_and_masks/{img,mask}`` and ``glas/{images,masks}``. Patches
are cut from the training images of ``benchmarks/splits`` and carry labels only; all rows of
a set use the same encoder, patches, number of steps and test images. The masks of training
images reach one row only, the fully supervised one, which says so; the quality of pseudo
masks is measured after training and chooses nothing. Interrupt it at any time: finished
rows are kept in ``results-SET.json`` and not run again, and sets can run side by side.
The table is written to ``--table``.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import tomllib
from pathlib import Path
from statistics import mean

import torch

import napari_wsss as wsss
from napari_wsss.cams import pseudo_mask_quality
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.jobs import EpochEnd, Log
from napari_wsss.patches import PatchSet, cut_patches
from napari_wsss.settings import ClassifierSettings, SegmenterSettings
from napari_wsss.training import TrueMasks

HERE = Path(__file__).parent
SETS = {
    "wsss4luad": {
        "images": "wsss4luad/images_and_masks/img",
        "masks": "wsss4luad/images_and_masks/mask",
        "classes": ClassTable.from_names(["tumour", "stroma", "normal"], [0, 1, 2], ignore=[3]),
        "stride": 56,
    },
    "glas": {
        "images": "glas/images",
        "masks": "glas/masks",
        "classes": ClassTable.from_names(["gland", "rest"], [255, 0]),
        "stride": 112,
    },
}
SIZE_PX, MIN_SHARE, EPOCHS, STEPS = 112, 0.05, 12, 15
ROWS = {
    "cam": "CAM only",
    "weak": "weak supervision (both phases)",
    "full": "full supervision (true masks)",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--table", type=Path)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.sets:
            run(name, seed, args.data, args.out)
    table = render({k: v for name in SETS for k, v in load(args.out, name).items()})
    print(table)
    if args.table:
        args.table.write_text(table, encoding="utf-8")


def load(out: Path, name: str) -> dict:
    """Return the finished rows of a set."""
    file = out / f"results-{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def run(name: str, seed: int, data: Path, out: Path) -> None:
    """Run what is missing of one set and seed."""
    folder = out / name
    file = out / f"results-{name}.json"
    results = load(out, name)
    patches = prepare(name, data, folder)
    runs = folder / f"seed{seed}"
    test = tomllib.loads((HERE / "splits" / f"{name}.toml").read_text())["test"]
    images = [data / SETS[name]["images"] / f"{n}.png" for n in test]
    masks = data / SETS[name]["masks"]
    plan = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "seed": seed}

    def done(row: str) -> bool:
        return f"{name}/{seed}/{row}" in results

    def keep(row: str, model: object, seconds: float, extra: dict | None = None) -> None:
        measured = wsss.evaluate(model, images, masks, SETS[name]["classes"])
        results[f"{name}/{seed}/{row}"] = {
            **measured.to_dict(),
            "seconds": seconds,
            "patches": len(patches),
            **(extra or {}),
        }
        file.write_text(json.dumps(results, indent=1))
        print(f"{name} seed {seed} {row}: mIoU {measured['predicted_gate'].scores.miou:.4f}")

    def trained(path: Path, train, load) -> tuple[object, float]:
        clock = path.with_suffix(".seconds")
        if path.exists():
            return load(path), float(clock.read_text())
        began = time.perf_counter()
        model = train()
        clock.write_text(str(time.perf_counter() - began))
        return model, time.perf_counter() - began

    classifier, first = trained(
        runs / "classifier.safetensors",
        lambda: wsss.train_classifier(
            patches, runs / "classifier.safetensors", ClassifierSettings(**plan), on_event=show
        ),
        wsss.load_classifier,
    )
    if not done("cam"):
        keep("cam", classifier, first)
    if not done("weak"):
        began = time.perf_counter()
        try:
            pseudo = wsss.PseudoMasks(runs / "pseudo")
        except DataError:
            pseudo = wsss.generate_pseudo_masks(patches, classifier, runs / "pseudo")
        middle = time.perf_counter() - began
        model, second = trained(
            runs / "weak.safetensors",
            lambda: wsss.train_segmenter(
                patches,
                pseudo,
                runs / "weak.safetensors",
                SegmenterSettings(**plan),
                on_event=show,
            ),
            wsss.load_segmenter,
        )
        extra = {"pseudo_masks": pseudo_mask_quality(pseudo, patches)}
        keep("weak", model, first + middle + second, extra)
    if not done("full"):
        model, seconds = trained(
            runs / "full.safetensors",
            lambda: wsss.train_segmenter(
                patches,
                TrueMasks(patches),
                runs / "full.safetensors",
                SegmenterSettings(**plan),
                on_event=show,
            ),
            wsss.load_segmenter,
        )
        keep("full", model, seconds)


def prepare(name: str, data: Path, folder: Path) -> PatchSet:
    """Cut the training patches of a set, once."""
    target = folder / "patches"
    if (target / "dataset.toml").exists():
        return wsss.load_patches(target)
    spec = SETS[name]
    train = tomllib.loads((HERE / "splits" / f"{name}.toml").read_text())["train"]
    return cut_patches(
        [data / spec["images"] / f"{n}.png" for n in train],
        data / spec["masks"],
        spec["classes"],
        target,
        size_px=SIZE_PX,
        stride_px=spec["stride"],
        min_share=MIN_SHARE,
    )


def show(event: object) -> None:
    if isinstance(event, EpochEnd):
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in event.metrics.items())
        print(f"  epoch {event.epoch}/{event.epochs}: {numbers}", flush=True)
    elif isinstance(event, Log):
        print(f"  {event.message}", flush=True)


def render(results: dict) -> str:
    """Return the table in Markdown."""

    def of(name: str, row: str) -> list[dict]:
        """Return the results of one row for every seed."""
        return [
            v
            for k, v in sorted(results.items())
            if k.startswith(f"{name}/") and k.endswith(f"/{row}")
        ]

    head = (
        "| set | method | mIoU, predicted gate (seeds) | 95 % interval over images, first seed "
        "| mIoU, oracle labels | FwIoU | accuracy | minutes |\n|---|---|---|---|---|---|---|---|"
    )
    lines = [head]
    for name in SETS:
        for row, title in ROWS.items():
            found = [
                v
                for k, v in sorted(results.items())
                if k.startswith(f"{name}/") and k.endswith(f"/{row}")
            ]
            if not found:
                continue
            gate = [f["protocols"]["predicted_gate"] for f in found]
            oracle = [f["protocols"]["oracle_labels"]["miou"] for f in found]
            seeds = " / ".join(f"{100 * g['miou']:.1f}" for g in gate)
            low, high = gate[0]["interval95"]
            lines.append(
                f"| {name} | {title} | **{100 * mean(g['miou'] for g in gate):.1f}** ({seeds}) "
                f"| {100 * low:.1f} to {100 * high:.1f} | {100 * mean(oracle):.1f} "
                f"| {100 * mean(g['fwiou'] for g in gate):.1f} "
                f"| {100 * mean(g['accuracy'] for g in gate):.1f} "
                f"| {mean(f['seconds'] for f in found) / 60:.1f} |"
            )
    lines += ["", "IoU per class (predicted gate, mean over seeds):", ""]
    for name in SETS:
        for row, title in ROWS.items():
            found = [
                v
                for k, v in sorted(results.items())
                if k.startswith(f"{name}/") and k.endswith(f"/{row}")
            ]
            if found:
                iou = [f["protocols"]["predicted_gate"]["iou"] for f in found]
                text = ", ".join(f"{c} {100 * mean(i[c] for i in iou):.1f}" for c in iou[0])
                lines.append(f"- {name}, {title}: {text}")
    lines += [
        "",
        "Pseudo masks of the training patches (measured afterwards, used for nothing):",
        "",
        "| set | seed | mIoU at depths 1 / 2 / 3 | the same on multi-label patches "
        "| where all depths agree (share) | pixels kept |\n|---|---|---|---|---|---|",
    ]
    for key, value in sorted(results.items()):
        if "pseudo_masks" in value:
            q = value["pseudo_masks"]
            every = " / ".join(f"{100 * d['miou']:.1f}" for d in q["depths"])
            multi = " / ".join(f"{100 * d['miou_multi_label']:.1f}" for d in q["depths"])
            lines.append(
                f"| {key.split('/')[0]} | {key.split('/')[1]} | {every} | {multi} "
                f"| {100 * q['agreeing']['miou']:.1f} ({100 * q['agreeing']['share']:.0f} %) "
                f"| {100 * q['kept_share']:.1f} % |"
            )
    lines += [
        "",
        f"{EPOCHS} epochs of {STEPS} steps of 16 patches in each phase; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
