"""MONAI's sliding window: 512 px, overlap 0.25, Gaussian weights, on the slide read whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import torch
from common import Network, load_segmenter, measure, options
from monai.inferers import SlidingWindowInferer


def main() -> None:
    parser = options()
    parser.add_argument("--batch", type=int, required=True)
    args = parser.parse_args()
    network = Network(load_segmenter(args), args.tuned)
    inferer = SlidingWindowInferer(
        roi_size=512, sw_batch_size=args.batch, overlap=0.25, mode="gaussian"
    )

    @torch.inference_mode()
    def segment(slide: Path, out: Path) -> None:
        image = torch.from_numpy(tifffile.imread(slide)).permute(2, 0, 1)[None]
        logits = inferer(image.contiguous().float().div_(255), network)
        np.save(out / "labels.npy", logits.argmax(1)[0].to(torch.uint8).numpy())

    measure(args, segment, lambda out: np.load(out / "labels.npy"), ["monai", "timm", "numpy"])


if __name__ == "__main__":
    main()
