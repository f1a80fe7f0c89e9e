"""Train the model that comes with the package, measure it, and write it with its card.

    python benchmarks/ship_model.py --data FOLDER --work DIR --out src/napari_wsss/models/shipped

FOLDER holds ``wsss4luad/images_and_masks/{img,mask}``. The recipe ``default`` is trained from
patch labels alone: masks give the labels of patches (a class is there if it covers 5 % of
one), and no mask is read while training, choosing the epoch or calibrating. Two steps:

- *measured*: as many models as there are folds, each trained without the images of its fold
  (as in ``accuracy.py``) and tested on them, so that every image is tested by a model that has
  not seen it;
- *shipped*: one model from all images, in half precision, with the card and the entry of the
  registry. Its own accuracy is not known; that of the measured models is what the card says.

Where ``accuracy.py`` has measured the recipe already, ``--accuracy`` takes its results file and
no further models are trained. Interrupt it at any time: finished parts are kept, an unfinished
training goes on from its last epoch.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tomli_w
import torch
from accuracy import FOLDS, folds_of
from accuracy_rows import MIN_SHARE, PLAN, SETS, SIZE_PX
from accuracy_table import Results
from model_card import card

import napari_wsss as wsss
from napari_wsss.errors import DataError
from napari_wsss.evaluation import Evaluation, Reliability, ReliabilityCounts
from napari_wsss.jobs import EpochEnd, Log
from napari_wsss.models import Segmenter, load_segmenter, save_model
from napari_wsss.models.fetching import file_sha256
from napari_wsss.patches import PatchSet, cut_patches
from napari_wsss.recipes import recipe

NAME = "lung-adenocarcinoma"
SET = "wsss4luad"
DATA = SETS[SET]
#: How the figures of the card were found.
HOW = (
    "Measured on all {images} images by {folds} models of the same recipe, each of which was "
    "trained without the images it is tested on."
)
#: The set has no exact µm/px: 10x, which is about 1.
MPP = 1.0
#: First lines of the registry.
HEAD = """\
# The models that come with the package, as in the registry of a user. Files are named relative
# to this folder. Written by benchmarks/ship_model.py.
"""
#: What the registry says of the model.
ENTRY = {
    "purpose": "Lung adenocarcinoma, H&E: tumour, stroma, normal lung",
    "terms": "research only: trained on WSSS4LUAD",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder of what is made")
    parser.add_argument("--out", type=Path, required=True, help="folder of shipped models")
    parser.add_argument("--accuracy", type=Path, help="results file of accuracy.py")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    folds = folds_of(DATA, args.data)
    everything = [path for fold in folds for path in fold]
    # One image in ten is enough to choose the epoch and to calibrate.
    model = trained(everything, args.data, args.work / "all", args.seed, validation_share=0.1)
    if args.accuracy is not None:
        measured = from_accuracy(args.accuracy)
    else:
        measured = measure(folds, args.data, args.work, args.seed)
    ship(model, measured, args.out, DATA.budget)


def from_accuracy(file: Path, row: str = "default") -> dict:
    """Return what the accuracy benchmark found, as `Evaluation.to_dict`: all folds, one seed."""
    results = Results.read(file)
    seeds = results.seeds(SET, row, [str(fold) for fold in range(FOLDS)])
    if not seeds:
        raise SystemExit(f"{file} does not hold all folds of {SET}, row {row}, of any seed.")
    (first, places), others = next(iter(seeds.items())), list(seeds)[1:]
    mious = ", ".join(f"{100 * results.miou(seeds[seed]):.1f}" for seed in others)
    also = f" Mean IoU of other seeds: {mious} %." if others else ""
    counts = {p: results.counts(places, p) for p in ("predicted_gate", "oracle_labels")}
    how = HOW.format(images=len(counts["predicted_gate"]), folds=FOLDS)
    evaluation = Evaluation.from_counts(
        counts, DATA.classes, conditions={"how": how + also, "seed": int(first)}
    )
    return evaluation.to_dict()


def measure(folds: Sequence[Sequence[Path]], data: Path, work: Path, seed: int) -> dict:
    """Return what models say of images they have not seen, as `Evaluation.to_dict`."""
    file = work / "measured.json"
    if file.exists():
        return json.loads(file.read_text())
    counts: dict[str, list] = {"predicted_gate": [], "oracle_labels": []}
    reliability = []
    for number, tested in enumerate(folds):
        others = [p for i, fold in enumerate(folds) if i != number for p in fold]
        model = trained(others, data, work / f"fold-{number}", seed)
        for image in tested:
            found = wsss.evaluate(model, [image], data / DATA.masks, DATA.classes)
            for name, rows in counts.items():
                rows.append(found[name].matrix.counts)
            reliability.append(counts_of(found.reliability))
            print(f"fold {number}, {image.stem}: {found['predicted_gate'].scores.accuracy:.3f}")
    how = HOW.format(images=sum(map(len, folds)), folds=len(folds))
    evaluation = Evaluation.from_counts(
        {name: np.stack(rows) for name, rows in counts.items()},
        DATA.classes,
        conditions={"how": how, "seed": seed},
        reliability=Reliability.from_counts(reliability, seed=seed),
        seed=seed,
    )
    evaluation.write_json(file)
    return evaluation.to_dict()


def counts_of(reliability: Reliability | None) -> ReliabilityCounts:
    """Return the counts of one image."""
    assert reliability is not None
    counts = ReliabilityCounts()
    counts.ranked, counts.binned = reliability.ranked, reliability.binned
    return counts


def trained(images: Sequence[Path], data: Path, work: Path, seed: int, **changes) -> Segmenter:
    """Return the segmenter of these images, trained if that is not done."""
    final = work / "segmenter.safetensors"
    if final.exists():
        return load_segmenter(final)
    patches = cut(images, data, work / "patches")
    settings = recipe("default")
    plan = {**PLAN, **DATA.budget, "seed": seed, **changes}
    first = work / "classifier.safetensors"
    if first.exists():
        classifier = wsss.load_classifier(first)
    else:
        classifier = wsss.train_classifier(
            patches, first, settings.classifier.changed(**plan), on_event=show
        )
    try:
        pseudo = wsss.PseudoMasks(work / "pseudo")
    except DataError:  # not there, or not finished
        pseudo = wsss.generate_pseudo_masks(
            patches, classifier, work / "pseudo", settings.pseudo_masks
        )
    return wsss.train_segmenter(
        patches, pseudo, final, settings.segmenter.changed(**plan), on_event=show
    )


def cut(images: Sequence[Path], data: Path, target: Path) -> PatchSet:
    """Return the labelled patches of images, cut once."""
    if not (target / "dataset.toml").exists():
        cut_patches(
            images,
            data / DATA.masks,
            DATA.classes,
            target,
            size_px=SIZE_PX,
            stride_px=DATA.stride_px,
            min_share=MIN_SHARE,
            mpp=MPP,
        )
    return wsss.load_patches(target)


def ship(model: Segmenter, measured: dict, out: Path, plan: dict) -> None:
    """Write model, card and registry."""
    file = out / f"{NAME}.safetensors"
    save_model(model, file, overwrite=True, half=True)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB, {kept(model, load_segmenter(file)):.4%} "
          "of noise keeps its class in half precision")  # fmt: skip
    (out / f"{NAME}.md").write_text(card(NAME, model.info, measured, plan), encoding="utf-8")
    entry = {
        "name": NAME,
        "file": file.name,
        "sha256": file_sha256(file),
        "purpose": f"{ENTRY['purpose']}, {MPP:g} µm/px",
        "classes": list(model.classes.names),
        "mpp": MPP,
        "terms": ENTRY["terms"],
        "card": f"{NAME}.md",
    }
    text = f"{HEAD}\n{tomli_w.dumps({'model': [entry]})}"
    (out / "registry.toml").write_text(text, encoding="utf-8")


@torch.inference_mode()
def kept(model: Segmenter, packed: Segmenter) -> float:
    """Return the share of pixels that both give the same class, on smooth noise."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.nn.functional.interpolate(
        torch.rand(4, 3, 32, 32, generator=generator), scale_factor=16, mode="bilinear"
    )
    return float((model(noise)[0].argmax(1) == packed(noise)[0].argmax(1)).float().mean())


def show(event: object) -> None:
    if isinstance(event, EpochEnd):
        numbers = ", ".join(f"{k} {v:.3f}" for k, v in event.metrics.items())
        print(f"  epoch {event.epoch}/{event.epochs}: {numbers}", flush=True)
    elif isinstance(event, Log):
        print(f"  {event.message}", flush=True)


if __name__ == "__main__":
    main()
