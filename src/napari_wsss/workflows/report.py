"""Reports with pictures: what the models make of a few images, beside the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_wsss.cams import PseudoMasks, depth_maps
from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.evaluation import Curve, Evaluation, Example, write_report
from napari_wsss.inference import Engine
from napari_wsss.models import Classifier, WsssModel
from napari_wsss.patches import PatchSet
from napari_wsss.patches.pairs import read_pair
from napari_wsss.training import history_path
from napari_wsss.workflows.measure import Files, matched, predict_image

__all__ = ["curves", "image_examples", "patch_examples", "report_evaluation"]

#: Curves drawn together; the rest of a history (seconds, ...) is no curve.
_GROUPS = {
    "loss": ("loss",),
    "held-out patch labels": ("map", "exact_match"),
    "held-out targets": ("target_miou", "target_accuracy"),
}


def report_evaluation(
    evaluation: Evaluation,
    model: WsssModel,
    images: Files,
    masks: Files,
    out: Path,
    *,
    title: str = "Evaluation",
    mpp: float | None = None,
    device: str = "auto",
    most: int = 6,
) -> Path:
    """Write ``out/report.html`` about one model and return its path.

    Parameters
    ----------
    evaluation
        Result of `evaluate` for the same model and images.
    model, images, masks, mpp, device
        As in `evaluate`.
    out
        Folder of the report.
    title
        Its heading.
    most
        Images that are shown.
    """
    engines = {"prediction": Engine(model, device=device)}
    return write_report(
        out,
        title=title,
        classes=evaluation.classes,
        evaluations={f"{model.info.kind} ({model.info.supervision})": evaluation},
        examples=image_examples(engines, images, masks, evaluation.classes, mpp=mpp, most=most),
        facts={k: str(v) for k, v in evaluation.conditions.items()},
    )


def image_examples(
    engines: Mapping[str, Engine],
    images: Files,
    masks: Files,
    classes: ClassTable,
    *,
    mpp: float | None = None,
    most: int = 6,
) -> list[Example]:
    """Return images with truth and the prediction of every engine, evenly chosen.

    Pixels that are no class in the truth are left white in the predictions.
    """
    pairs = matched(images, masks)
    examples = []
    for i in np.unique(np.linspace(0, len(pairs) - 1, min(most, len(pairs))).astype(int)):
        image, values = read_pair(pairs[i])
        truth = classes.to_indices(values)
        panels: dict[str, NDArray[Any]] = {"truth": truth}
        for caption, engine in engines.items():
            info = engine.model.info
            found = predict_image(engine, image, info.patch_size_px, info.mpp, mpp)
            # What is not measured (glass) is not shown either.
            panels[caption] = np.where(truth == IGNORE, IGNORE, found.labels())
            if caption == list(engines)[-1]:
                panels[f"uncertainty ({caption})"] = found.uncertainty()
        examples.append(Example(pairs[i].key, image, panels))
    return examples


def patch_examples(
    classifier: Classifier,
    patches: PatchSet,
    pseudo: PseudoMasks,
    *,
    with_truth: bool = False,
    most: int = 6,
) -> list[Example]:
    """Return multi-label patches with their pseudo masks and their CAM per class and depth.

    Parameters
    ----------
    classifier
        Its Grad-CAM maps are shown, each depth scaled to its largest value.
    patches, pseudo
        The patches and their pseudo masks.
    with_truth
        Whether to show (never use) the set's true masks beside them.
    most
        Patches shown, those with most classes first.
    """
    order = np.argsort(-patches.labels.sum(1), kind="stable")
    several = [int(i) for i in order if not patches.single_label[i]]
    step = max(1, len(several) // max(most, 1))
    model = classifier.cpu().eval()
    examples = []
    for i in several[::step][:most]:
        image = patches.read(i)
        batch = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        wanted = torch.from_numpy(patches.labels[i : i + 1].copy())
        maps = depth_maps(model, batch, wanted, method="gradcam")
        panels: dict[str, NDArray[Any]] = {}
        if with_truth:
            panels["truth"] = patches.read_mask(i)
        for depth, mask in enumerate(pseudo.targets(patches.names[i]), 1):
            panels[f"pseudo mask, depth {depth}"] = mask
        panels["agreement of depths"] = pseudo.agreement(patches.names[i])
        for k in np.flatnonzero(patches.labels[i]):
            for depth, m in enumerate(maps, 1):
                shown = m[0, k].clamp_min(0)
                name = f"CAM {patches.classes.names[k]}, depth {depth}"
                panels[name] = (shown / shown.max().clamp_min(1e-8)).numpy()
        examples.append(Example(f"patch {patches.names[i]}", image, panels))
    return examples


def curves(models: Mapping[str, Path]) -> list[Curve]:
    """Return the training curves beside the checkpoints `models` (title -> path)."""
    found = []
    for title, path in models.items():
        file = history_path(path)
        if not file.is_file():
            continue
        history: Sequence[Mapping[str, float]] = json.loads(file.read_text(encoding="utf-8"))
        for group, names in _GROUPS.items():
            series = {n: [h[n] for h in history] for n in names if all(n in h for h in history)}
            if series:
                found.append(Curve(f"{title}: {group}", "epoch", series))
        ap = [n for n in history[0] if n.startswith("ap ")] if history else []
        series = {n: [h[n] for h in history] for n in ap if all(n in h for h in history)}
        if series:
            found.append(Curve(f"{title}: average precision", "epoch", series))
    return found
