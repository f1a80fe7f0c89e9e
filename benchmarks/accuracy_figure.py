"""A picture of the rows on test images: what was drawn, what was found.

The images may not be passed on, so the picture is for the eyes of whoever has the data.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from numpy.typing import NDArray

import napari_wsss as wsss
from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.inference import Engine
from napari_wsss.models import WsssModel
from napari_wsss.patches import PatchSet
from napari_wsss.settings import InferenceSettings, PseudoMaskSettings
from napari_wsss.workflows.measure import predict_image

mpl.use("Agg")
from matplotlib import pyplot as plt

__all__ = ["draw", "predicted", "pseudo_mask"]


def predicted(model: WsssModel, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the labels (H, W) of an image with the model's own gate."""
    engine = Engine(model, InferenceSettings(precision="fp32"), device="cpu")
    return predict_image(engine, image, model.info.patch_size_px, model.mpp).labels()


def pseudo_mask(
    patches: PatchSet,
    name: str,
    size: tuple[int, int],
    classifier: wsss.Classifier,
    settings: PseudoMaskSettings,
) -> NDArray[np.uint8]:
    """Return the pseudo mask (H, W) of an image, put together from those of its patches."""
    own = patches.subset(np.array([group == name for group in patches.groups]))
    whole = np.full(size, IGNORE, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        made = wsss.generate_pseudo_masks(
            own, classifier, Path(folder) / "masks", settings, device="cpu"
        )
        for patch in own.names:
            y, x = map(int, re.findall(r"_y(\d+)_x(\d+)$", patch)[0])
            mask = made.targets(patch)[-1]
            whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return whole


def draw(
    rows: Sequence[tuple[NDArray[np.uint8], Mapping[str, NDArray[Any]]]],
    classes: ClassTable,
    path: Path,
) -> None:
    """Draw an image and its masks in a line each.

    Parameters
    ----------
    rows
        Images (H, W, 3), each with masks (H, W) by their titles; 255 is drawn white.
    classes
        Their colours.
    path
        PNG to write.
    """
    colors = ListedColormap([*(classes.rgb / 255), (1.0, 1.0, 1.0)])
    columns = 1 + max(len(masks) for _, masks in rows)
    heights = [image.shape[0] / image.shape[1] for image, _ in rows]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(2.2 * columns, 2.2 * sum(heights) + 0.3 * len(rows) + 0.4),
        height_ratios=heights,
        squeeze=False,
    )
    for line, (image, masks) in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        line[0].imshow(image)
        line[0].set_title("image", fontsize=8)
        for axis, (title, mask) in zip(line[1:], masks.items(), strict=False):
            shown = np.where(mask == IGNORE, len(classes), mask)
            axis.imshow(shown, cmap=colors, vmin=0, vmax=len(classes), interpolation="nearest")
            axis.set_title(title, fontsize=8)
    handles = [plt.Rectangle((0, 0), 1, 1, color=rgb / 255) for rgb in classes.rgb]
    handles.append(plt.Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="grey"))
    names = [*classes.names, "no class"]
    figure.legend(handles, names, ncol=len(names), loc="lower center", fontsize=8)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
