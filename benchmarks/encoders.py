"""Encoders, decoders, depth and output stride beside each other, with the same budget.

    python benchmarks/encoders.py --data FOLDER --out benchmark-output --table encoders.md

Set, patches, fold, budget and stages are those of ``accuracy.py``, with which finished stages
are shared: each arm trains both phases from patch labels on one half of the images and is
measured on the other. Arms that differ in the segmenter only share classifier and pseudo
masks. Masks measure, and choose nothing. Interrupt it at any time; finished stages are kept.

Beside accuracy stands what an arm costs, which decides as much for a user: weights, and seconds
of a processor for a megapixel of a slide with one thread. ``--costs`` measures that alone, of
networks with random weights.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy import Bench, Stages
from accuracy_rows import SETS, SIZE_PX, Row

from napari_wsss.errors import WsssError
from napari_wsss.evaluation import ConfusionMatrix, scores
from napari_wsss.evaluation.bootstrap import bootstrap_interval
from napari_wsss.files import write_atomic
from napari_wsss.inference import Engine, image_logits
from napari_wsss.models import ModelInfo, Segmenter, WsssModel
from napari_wsss.settings import InferenceSettings

BASE = "default"


def _row(
    title: str,
    encoder: Mapping[str, Any] | None = None,
    depths: tuple[int, ...] | None = None,
    **segmenter: Any,
) -> Row:
    """Return an arm: an encoder of both phases, depths of the classifier, and the segmenter."""
    both: dict[str, Any] = {} if encoder is None else {"encoder": dict(encoder)}
    classifier = both if depths is None else {**both, "depths": depths}
    return Row(title, base=BASE, classifier=classifier, segmenter={**both, **segmenter})


ARMS: Mapping[str, Row] = {
    "lite0": _row("Lite0, U-Net on 4 stages, stride 16 (default)"),
    "lite0-5": _row("Lite0, U-Net on 5 stages", encoder_stages=5),
    "lite0-3": _row("Lite0, U-Net on 3 stages", encoder_stages=3),
    "lite0-s32": _row("Lite0, output stride 32", {"output_stride": 32}),
    "lite0-s8": _row("Lite0, output stride 8", {"output_stride": 8}),
    "lite0-2-depths": _row("Lite0, joint head on the two deepest stages", depths=(-2, -1)),
    "lite0-4-depths": _row("Lite0, joint head on the four deepest", depths=(-4, -3, -2, -1)),
    "lite0-dlv3": _row("Lite0, DeepLabV3+ (not exact under tiling)", decoder="deeplabv3plus"),
    "lite1": _row("Lite1, U-Net on 4 stages", {"name": "tf_efficientnet_lite1"}),
    "lite2": _row("Lite2, U-Net on 4 stages", {"name": "tf_efficientnet_lite2"}),
    # No weights of it can be installed, so it begins from nothing; for parity of the code only.
    "resnet38": _row(
        "ResNet-38 from random weights, DeepLabV3+ at stride 8",
        {"name": "resnet38d", "weights": "random", "output_stride": 8},
        decoder="deeplabv3plus",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="needed without --costs")
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--sets", nargs="+", choices=SETS, default=["wsss4luad"])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS)[:-1])
    parser.add_argument("--folds", nargs="+", default=["0"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--costs", action="store_true", help="train nothing")
    parser.add_argument("--table", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    if args.data is None and not args.costs:
        parser.error("--data is needed, or --costs")
    file = args.out / "encoders.json"
    args.out.mkdir(parents=True, exist_ok=True)
    results = json.loads(file.read_text()) if file.exists() else {}

    def keep(place: str, found: dict[str, Any]) -> None:
        results[place] = found
        write_atomic(file, json.dumps(results, indent=1).encode())

    for key in args.arms:
        if f"cost/{key}" not in results:
            keep(f"cost/{key}", cost(untrained(ARMS[key])))
    for seed in [] if args.costs else args.seeds:
        for fold in args.folds:
            for name in args.sets:
                bench = Bench(name, fold, seed, args.data, None, args.out)
                for key in args.arms:
                    place = f"{name}/{fold}/{seed}/{key}"
                    if place in results:
                        continue
                    print(f"{place} ...", flush=True)
                    try:
                        keep(place, run(bench, ARMS[key]))
                    except WsssError as error:  # weights that are not installed, say
                        print(f"{place}: left out: {error}", flush=True)
    table = render(results)
    print(table)
    if args.table:
        args.table.write_text(table, encoding="utf-8")


def run(bench: Bench, row: Row) -> dict[str, Any]:
    """Train one arm and return what it reaches."""
    stages = Stages(bench.out / bench.name, bench.patches(), row, bench.set, bench.seed)
    found: Any = None
    seconds, of_labels = 0.0, None
    for stage in stages.made():
        stages.folder(stage).mkdir(parents=True, exist_ok=True)
        found, spent = stages.make(stage, found)
        seconds += spent["processor"]
        if stage.kind == "classifier":
            of_labels = found.info.metrics.get("map")
    return {
        "counts": bench.measure(found, row)["predicted_gate"],
        "label_map": of_labels,
        "train_seconds": seconds,
    }


def untrained(row: Row) -> Segmenter:
    """Return the segmenter of an arm with random weights, for three classes."""
    settings = row.settings(SETS["wsss4luad"], 0).segmenter
    encoder = settings.encoder.changed(weights="random").resolved(SIZE_PX)
    return Segmenter(
        ModelInfo(
            kind="segmenter",
            encoder=encoder,
            architecture=settings.architecture,
            classes=SETS["wsss4luad"].classes.to_dict(),
            patch_size_px=SIZE_PX,
            supervision="pseudo masks",
        )
    ).eval()


def cost(model: WsssModel) -> dict[str, Any]:
    """Return what a network costs, whatever its weights are."""
    return {
        "weights": sum(p.numel() for p in model.parameters()),
        "seconds_per_mp": speed(model),
        "exact": Engine(model, device="cpu").exact,
    }


def speed(model: WsssModel, side: int = 1024, runs: int = 3) -> float:
    """Return seconds of a processor per megapixel, the least of a few runs after a first one."""
    torch.set_num_threads(1)
    engine = Engine(model, InferenceSettings(precision="fp32"), device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    times = []
    for _ in range(runs + 1):
        began = time.process_time()
        image_logits(engine, image, model.info.patch_size_px)
        times.append(time.process_time() - began)
    return min(times[1:]) / (side**2 / 1e6)


def render(results: Mapping[str, Any]) -> str:
    """Return the table in Markdown; several seeds and folds of an arm are counted together."""
    lines = [
        "| set | arm | mIoU | 95 % interval over images | held-out labels, mean AP "
        "| training (min of processor) | weights (M) | s/MP, one thread, fp32 | exact in tiles |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in SETS:
        k = len(SETS[name].classes)
        for key, row in ARMS.items():
            found = [
                v
                for place, v in sorted(results.items())
                if place.startswith(f"{name}/") and place.endswith(f"/{key}")
            ]
            costs = results.get(f"cost/{key}")
            if not found and (costs is None or name != next(iter(SETS))):
                continue
            reached = "– | – | – | –"
            if found:
                counts = np.concatenate(
                    [np.array(f["counts"], np.int64).reshape(-1, k, k + 1) for f in found]
                )
                miou = scores(ConfusionMatrix.from_counts(counts.sum(0))).miou
                low, high = bootstrap_interval(counts)
                minutes = statistics.mean(f["train_seconds"] for f in found) / 60
                reached = (
                    f"{100 * miou:.1f} | {100 * low:.1f} to {100 * high:.1f} "
                    f"| {statistics.mean(f['label_map'] for f in found):.3f} | {minutes:.1f}"
                )
            priced = "– | – | –"
            if costs is not None:
                priced = (
                    f"{costs['weights'] / 1e6:.1f} | {costs['seconds_per_mp']:.2f} "
                    f"| {'yes' if costs['exact'] else 'no'}"
                )
            lines.append(f"| {name} | {row.title} | {reached} | {priced} |")
    runs = sorted({place.rsplit("/", 1)[0] for place in results if place.count("/") > 1})
    lines += [
        "",
        "Steps as in the accuracy benchmark; set, fold and "
        f"seed: {', '.join(runs) or 'none'}; Python {platform.python_version()}, torch "
        f"{torch.__version__}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
