"""Make what all sides get: slide, a small slide to warm up on, module, and the right labels.

The right labels are those of one forward pass over the whole image, in float32.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile
import torch
from tissue import MPP, write_slide

from napari_wsss.classes import ClassTable
from napari_wsss.models import ModelInfo, Segmenter, load_model, save_model
from napari_wsss.settings import SegmenterSettings

WARM_UP_PX, PATCH_PX = 1024, 224
CLASSES = ClassTable.from_names(["a", "b", "c", "d"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side-px", type=int, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_slide(args.out / "warm-up.tif", args.data, WARM_UP_PX)
    slide = write_slide(args.out / f"slide-{args.side_px}.tif", args.data, args.side_px)
    save_segmenter(args.out / "model.safetensors")
    np.save(args.out / "whole.npy", whole_image_labels(args.out / "model.safetensors", slide))


def save_segmenter(path: Path) -> None:
    """Write the default segmenter: U-Net on the packaged Lite0, its decoder random."""
    torch.manual_seed(0)
    settings = SegmenterSettings()
    info = ModelInfo(
        kind="segmenter",
        encoder=settings.encoder.resolved(PATCH_PX),
        architecture=settings.architecture,
        classes=CLASSES.to_dict(),
        mpp=MPP,
        patch_size_px=PATCH_PX,
    )
    save_model(Segmenter(info), path, overwrite=True)


@torch.inference_mode()
def whole_image_labels(model: Path, slide: Path) -> np.ndarray:
    """Return (H, W) uint8, 0 to K - 1."""
    image = torch.from_numpy(tifffile.imread(slide)).permute(2, 0, 1)[None]
    network = load_model(model).to(memory_format=torch.channels_last)
    logits = network.dense(image.float().div_(255)).logits
    return logits[0].argmax(0).to(torch.uint8).numpy()


if __name__ == "__main__":
    main()
