"""Draw the README's picture from a finished demo: ``python docs/figures.py demo-output``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from napari_wsss import load_classifier, load_segmenter
from napari_wsss.classes import IGNORE
from napari_wsss.evaluation import colorize
from napari_wsss.inference import Engine
from napari_wsss.workflows.measure import predict_image


def main(demo: Path, out: Path) -> None:
    """Show an unseen region, its truth, and what each of the demo's models makes of it."""
    image = np.asarray(Image.open(demo / "test" / "images" / "y0000_x0000.png"))
    values = np.asarray(Image.open(demo / "test" / "masks" / "y0000_x0000.png"))
    models = {
        "CAM only": load_classifier(demo / "classifier.safetensors"),
        "napari-wsss, patch labels": load_segmenter(demo / "segmenter.safetensors"),
        "same network, true masks": load_segmenter(demo / "fully-supervised.safetensors"),
    }
    classes = models["CAM only"].classes
    truth = classes.to_indices(values)
    pictures = {"synthetic H&E, unseen slide": image, "truth": colorize(truth, classes)}
    for title, model in models.items():
        found = predict_image(Engine(model), image, model.info.patch_size_px, model.mpp)
        labels = np.where(truth == IGNORE, IGNORE, found.labels())
        pictures[title] = colorize(labels, classes)
    figure = Figure(figsize=(14, 3.5), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for i, (title, picture) in enumerate(pictures.items()):
        axes = figure.add_subplot(1, len(pictures), i + 1)
        axes.imshow(picture)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
    figure.legend(
        handles=[Patch(color=c.color, label=c.name) for c in classes.classes],
        loc="outside lower center",
        ncols=len(classes),
        frameon=False,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, facecolor="white")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "images" / "demo.png")
