"""Our side: `segment_slide` with its default settings, without gate and tissue mask.

The gate and the skipping of glass are switched off so that all sides compute the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from common import load_segmenter, measure, options

from napari_wsss.inference import SlideSegmentation, segment_slide
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide


def main() -> None:
    args = options().parse_args()
    model = load_segmenter(args)
    settings = InferenceSettings(gate=False, tissue_only=False)

    def segment(slide: Path, out: Path) -> None:
        segment_slide(open_slide(slide), model, out, settings, device="cpu")

    def labels(out: Path) -> np.ndarray:
        (path,) = out.glob("*.ome.zarr")
        return np.asarray(SlideSegmentation.open(path).labels[:]) - 1  # 0 is background

    args.tuned = True  # stated in the table: the engine does this by itself
    measure(args, segment, labels, ["zarr", "timm", "numpy"])


if __name__ == "__main__":
    main()
