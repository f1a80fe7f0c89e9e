"""Draw the tutorial's picture of patch labels: ``python docs/patches_figure.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from napari_wsss.classes import IGNORE
from napari_wsss.evaluation import colorize
from napari_wsss.samples import synthetic_slide

SIZE_PX, MIN_SHARE = 128, 0.05


def main(out: Path) -> None:
    """Show a slide, its truth, and six patches with the classes that occur in them."""
    slide = synthetic_slide((1024, 1024), seed=0)
    names = slide.classes.names
    fullest: dict[tuple[str, ...], tuple[int, tuple[int, int]]] = {}
    for y in range(0, 1024, SIZE_PX):
        for x in range(0, 1024, SIZE_PX):
            truth = slide.truth[y : y + SIZE_PX, x : x + SIZE_PX]
            counts = np.bincount(truth[truth != IGNORE], minlength=len(names))
            present = tuple(
                name
                for name, count in zip(names, counts, strict=True)
                if count >= MIN_SHARE * truth.size
            )
            if present:  # of equal labels the patch with least glass is shown
                best = fullest.get(present, (0, (y, x)))
                fullest[present] = max(best, (int(counts.sum()), (y, x)))
    chosen = {present: corner for present, (_, corner) in fullest.items()}
    shown = sorted(chosen.items(), key=lambda item: len(item[0]))[:6]

    figure = Figure(figsize=(12, 4.4), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 7)
    for i, (title, picture) in enumerate(
        {"slide": slide.image, "truth": colorize(slide.truth, slide.classes)}.items()
    ):
        axes = figure.add_subplot(grid[:, 2 * i : 2 * i + 2])
        axes.imshow(picture)
        axes.set_title(title, fontsize=11)
        axes.set_axis_off()
        for y, x in dict(shown).values():
            axes.add_patch(Rectangle((x, y), SIZE_PX, SIZE_PX, fill=False, color="black", lw=1.5))
    for i, (present, (y, x)) in enumerate(shown):
        axes = figure.add_subplot(grid[i // 3, 4 + i % 3])
        axes.imshow(slide.image[y : y + SIZE_PX, x : x + SIZE_PX])
        axes.set_title("\n+ ".join(present), fontsize=9)
        axes.set_axis_off()
    figure.legend(
        handles=[Patch(color=c.color, label=c.name) for c in slide.classes.classes],
        loc="outside lower center",
        ncols=len(names),
        frameon=False,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, facecolor="white")


if __name__ == "__main__":
    main(Path(__file__).parent / "images" / "patches.png")
