"""The network alone: tensors of 1024 px that are in memory, nothing read, nothing written."""

from __future__ import annotations

from pathlib import Path

import torch
from common import Network, load_segmenter, measure, options, pixels_of

TILE_PX = 1024


def main() -> None:
    args = options().parse_args()
    network = Network(load_segmenter(args), args.tuned)
    tile = torch.rand(1, 3, TILE_PX, TILE_PX)

    @torch.inference_mode()
    def segment(slide: Path, out: Path) -> None:
        for _ in range(pixels_of(slide) // TILE_PX**2):
            network(tile)

    measure(args, segment, None, ["timm"])


if __name__ == "__main__":
    main()
