"""TIAToolbox's `SemanticSegmentor` on the same module.

The model class does what those of TIAToolbox do: softmax, crop to the output shape, and
arg-max as post-processing. The result is written as zarr, its leanest output on disk.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import zarr
from common import Network, load_segmenter, measure, options
from tiatoolbox.models.architecture.utils import centre_crop
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor

RESOLUTION = {"units": "mpp", "resolution": 0.5}


class Peer(ModelABC):
    """Our segmenter as a model of TIAToolbox."""

    def __init__(self, network: Network, input_px: int, output_px: int):
        super().__init__()
        self.network = network
        self.margin = [input_px - output_px] * 2

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images / 255)

    @staticmethod
    def infer_batch(model: Peer, batch_data: Tensor, *, device: str) -> np.ndarray:
        """Return (N, H, W, K) probabilities of images (N, H, W, 3)."""
        model.eval()
        images = batch_data.to(device=device, dtype=torch.float32).permute(0, 3, 1, 2)
        with torch.inference_mode():
            probabilities = model(images.contiguous()).softmax(1)
            if any(model.margin):
                probabilities = centre_crop(probabilities, model.margin)
        return probabilities.permute(0, 2, 3, 1).cpu().numpy()

    @staticmethod
    def postproc(image: np.ndarray) -> np.ndarray:
        return np.argmax(image, axis=-1)


def main() -> None:
    warnings.simplefilter("ignore")
    parser = options()
    parser.add_argument("--input-px", type=int, required=True)
    parser.add_argument("--output-px", type=int, required=True)
    parser.add_argument("--stride-px", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    args = parser.parse_args()
    model = Peer(Network(load_segmenter(args), args.tuned), args.input_px, args.output_px)
    engine = SemanticSegmentor(
        model=model,
        batch_size=args.batch,
        num_workers=args.workers,
        device="cpu",
        verbose=False,
    )
    config = IOSegmentorConfig(
        input_resolutions=[RESOLUTION],
        output_resolutions=[RESOLUTION],
        save_resolution=RESOLUTION,
        patch_input_shape=(args.input_px, args.input_px),
        patch_output_shape=(args.output_px, args.output_px),
        stride_shape=(args.stride_px, args.stride_px),
    )

    def segment(slide: Path, out: Path) -> None:
        engine.run(
            images=[slide],
            ioconfig=config,
            patch_mode=False,
            save_dir=out / "zarr",
            output_type="zarr",
            auto_get_mask=False,
        )

    def labels(out: Path) -> np.ndarray:
        (path,) = (out / "zarr").glob("*.zarr")
        return np.asarray(zarr.open(str(path), mode="r")["predictions"][:])

    measure(args, segment, labels, ["tiatoolbox", "timm", "zarr", "numpy"])


if __name__ == "__main__":
    main()
