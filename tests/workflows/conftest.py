"""Images whose two tissues differ in texture, with masks, and models of one step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, ModelInfo, Segmenter
from napari_wsss.settings import EncoderSettings

CLASSES = ClassTable.from_names(["left", "right"], [1, 2], ignore=[0])


def draw(folder: Path, n: int, size: int = 96) -> tuple[Path, Path]:
    """Write `n` images, half dark and half bright, with masks 1 and 2 and an ignored row."""
    images, masks = folder / "images", folder / "masks"
    images.mkdir(parents=True)
    masks.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        border = int(rng.integers(size // 4, 3 * size // 4))
        mask = np.full((size, size), 2, np.uint8)
        mask[:, :border] = 1
        mask[0] = 0
        image = np.where(mask[..., None] == 1, 90, 170) + rng.integers(-30, 30, (size, size, 3))
        Image.fromarray(image.astype(np.uint8)).save(images / f"im{i}.png")
        Image.fromarray(mask).save(masks / f"im{i}.png")
    CLASSES.write(folder / "classes.toml")
    return images, masks


def info(kind: str, mpp: float | None = None) -> ModelInfo:
    """Return the header of a small untrained model."""
    return ModelInfo(
        kind=kind,
        encoder=EncoderSettings(upscale=1.0),
        classes=CLASSES.to_dict(),
        mpp=mpp,
        patch_size_px=32,
    )


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return draw(tmp_path_factory.mktemp("pictures"), 3)


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    return Segmenter(info("segmenter", mpp=1.0)).eval()


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    return Classifier(info("classifier", mpp=1.0)).eval()


@pytest.fixture(scope="session")
def draw_pictures():
    return draw
