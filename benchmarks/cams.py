"""Pseudo masks of three depths: ours against the plain procedure, with the same ResNet-38.

    python benchmarks/cams.py --data FOLDER

The plain procedure is that of the method's published code: batch 1, and for every class and
every depth one forward and one full backward pass (gradients of all weights, too). It runs in
a process of its own, so that nothing that we set (such as the allocator's thresholds) helps it.
Patches are real tissue of the set ``glas``, their labels two or three of four classes by
chance. Weights are random with a fixed seed, batch-norm statistics those of the patches.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from engine import spread, table
from numpy.typing import NDArray
from PIL import Image
from tissue import tissue_pattern

from napari_wsss.cams import PseudoMasks, generate_pseudo_masks
from napari_wsss.cams.masks import MaskNetwork
from napari_wsss.classes import ClassTable
from napari_wsss.jobs import CancelToken
from napari_wsss.models import Classifier, ModelInfo, load_classifier, save_model
from napari_wsss.patches import load_patches
from napari_wsss.settings import EncoderSettings, PseudoMaskSettings

CLASSES, SIDE_PX, DEPTHS = "abcd", 224, (-3, -2, -1)


def make_classifier(images: list[NDArray[np.uint8]]) -> Classifier:
    """Return a ResNet-38 at output stride 8, as published, its statistics those of `images`."""
    torch.manual_seed(0)
    info = ModelInfo(
        kind="classifier",
        encoder=EncoderSettings(name="resnet38d", weights="random", output_stride=8, upscale=1.0),
        architecture={"depths": list(DEPTHS), "deep_supervision": False},
        classes=ClassTable.from_names(list(CLASSES)).to_dict(),
        patch_size_px=SIDE_PX,
    )
    model = Classifier(info).train()
    torch.nn.init.normal_(model.heads[-1].weight)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # plain mean of what it sees
    with torch.no_grad():
        model.features(x)
    return model.eval()


def plain_masks(model: Classifier, image: NDArray[np.uint8], label: NDArray[np.bool_]) -> tuple:
    """Return (D, H, W) masks by the plain procedure, and the seconds of each of its passes."""
    modules = dict(model.encoder.net.named_modules())
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    masks, seconds = [], []
    for stage in model.stages:
        maps = torch.full((len(label), SIDE_PX, SIDE_PX), -torch.inf)
        for k in range(len(label)):
            began = time.perf_counter()
            kept: dict[str, torch.Tensor] = {}

            def keep(_: object, __: object, out: torch.Tensor, kept: dict = kept) -> None:
                kept["f"] = out
                out.retain_grad()

            name = model.encoder._stage_names[stage]
            handle = modules[name].register_forward_hook(keep)
            model.zero_grad()
            model(x).logits[-1][0, k].backward()
            handle.remove()
            feature, gradient = kept["f"].detach(), kept["f"].grad
            assert gradient is not None
            cam = (gradient.mean((2, 3), keepdim=True) * feature).sum(1, keepdim=True)
            large = F.interpolate(cam, (SIDE_PX, SIDE_PX), mode="bilinear")[0, 0]
            if label[k]:
                maps[k] = large
            seconds.append(time.perf_counter() - began)
        masks.append(maps.argmax(0).numpy().astype(np.uint8))
    return np.stack(masks), seconds


def _plain(path: Path, images: list, labels: NDArray[np.bool_]) -> list[tuple]:
    model = load_classifier(path)
    return [plain_masks(model, i, row) for i, row in zip(images, labels, strict=True)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the set glas")
    parser.add_argument("--patches", type=int, default=16, help="patches of our side")
    parser.add_argument("--plain", type=int, default=1, help="patches a round of the plain side")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"))
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    canvas = tissue_pattern(args.data)
    corners = rng.integers(0, 1024 - SIDE_PX, (args.patches, 2))
    images = [np.ascontiguousarray(canvas[y : y + SIDE_PX, x : x + SIDE_PX]) for y, x in corners]
    labels = np.zeros((args.patches, len(CLASSES)), bool)
    for i, row in enumerate(labels):
        row[rng.permutation(len(CLASSES))[: 2 + i % 2]] = True
    with tempfile.TemporaryDirectory() as name:
        settings = PseudoMaskSettings(flips=False).changed(precision=args.precision)
        compare(Path(name), images, labels, args.plain, args.runs, settings)


def compare(
    folder: Path,
    images: list,
    labels: NDArray[np.bool_],
    plain_patches: int,
    runs: int,
    settings: PseudoMaskSettings,
) -> None:
    """Time both sides in turn."""
    path = save_model(make_classifier(images[:8]), folder / "classifier.safetensors")
    model = load_classifier(path)
    rows = ["path," + ",".join(CLASSES)]
    for i, (image, row) in enumerate(zip(images, labels, strict=True)):
        Image.fromarray(image).save(folder / f"{i}.png")
        rows.append(f"{i}.png," + ",".join(str(int(v)) for v in row))
    (folder / "labels.csv").write_text("\n".join(rows))
    patches = load_patches(folder)
    names = [str(i) for i in range(len(images))]
    network = MaskNetwork(model, settings, torch.device("cpu"), CancelToken())
    classes = labels.sum(1)
    ours: dict[int, list[float]] = {2: [], 3: []}
    whole, passes, equal = [], [], []
    for run in range(runs):
        for count, times in ours.items():
            some = np.flatnonzero(classes == count)
            began = time.perf_counter()
            network.masks([names[i] for i in some], [images[i] for i in some], labels[some])
            times.append((time.perf_counter() - began) / len(some))
        began = time.perf_counter()
        made: PseudoMasks = generate_pseudo_masks(
            patches, model, folder / "out", settings, overwrite=True
        )
        whole.append((time.perf_counter() - began) / len(images))
        first = run * plain_patches % len(images)
        chosen = range(first, first + plain_patches)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(_plain, (path, [images[i] for i in chosen], labels[chosen]))
        for i, (masks, seconds) in zip(chosen, found, strict=True):
            passes += seconds
            targets = made.targets(patches.names[i])
            equal.append([(a == b).mean() for a, b in zip(masks, targets, strict=True)])
    per_pass = float(np.median(passes))
    everything = len(CLASSES) * len(DEPTHS)
    print(
        f"Plain: {spread(passes)} s a pass (forward and full backward), of which the published "
        f"procedure makes {everything} per patch (all classes) and a frugal one classes x depths."
    )
    table(
        ["classes in the label", "ours, s/patch", "ratio to published", "ratio to frugal"],
        [
            [
                count,
                spread(times),
                spread([everything * per_pass / t for t in times], 1),
                spread([count * len(DEPTHS) * per_pass / t for t in times], 1),
            ]
            for count, times in [*ours.items()]
        ]
        + [
            [
                "2 and 3, with reading and writing files",
                spread(whole),
                spread([everything * per_pass / t for t in whole], 1),
                spread([2.5 * len(DEPTHS) * per_pass / t for t in whole], 1),
            ]
        ],
    )
    shares = ", ".join(f"{100 * share:.3f} %" for share in np.mean(equal, 0))
    print(f"Equal mask pixels at the three depths: {shares} ({len(equal)} patches)")


if __name__ == "__main__":
    main()
