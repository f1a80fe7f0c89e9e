"""Two synthetic tissues that a small network tells apart in a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.jobs import Event
from napari_wsss.patches import PatchSet, load_patches
from napari_wsss.settings import ClassifierSettings, SegmenterSettings

SIDE = 32
CLASSES = ClassTable.from_names(["dots", "lines"], values=[0, 1], ignore=[3])
MakePatches = Callable[..., PatchSet]


def tissue(kind: int, rng: np.random.Generator, side: int = SIDE) -> NDArray[np.uint8]:
    """Return (side, side, 3) of violet dots or pink lines."""
    base = np.array([(120, 60, 150), (230, 150, 190)][kind], float)
    grid = np.indices((side, side))
    pattern = (grid[0] % 6 < 3) & (grid[1] % 6 < 3) if kind == 0 else (grid[0] % 8 < 4)
    pixels = base - 50 * pattern[..., None] + rng.normal(0, 12, (side, side, 3))
    return pixels.clip(0, 255).astype(np.uint8)


@pytest.fixture
def make_patches(tmp_path: Path) -> MakePatches:
    """Write `n` patches (each of one or both tissues, side by side) and load them."""

    def make(
        n: int = 12,
        *,
        name: str = "set",
        classes: ClassTable = CLASSES,
        groups: int = 6,
        masks: bool = True,
        sizes: tuple[int, ...] = (SIDE,),
        seed: int = 0,
        extra: str = "",
    ) -> PatchSet:
        rng = np.random.default_rng(seed)
        root = tmp_path / name
        (root / "images").mkdir(parents=True)
        (root / "masks").mkdir()
        rows = [f"path,group,{','.join(classes.names)}"]
        for i in range(n):
            side, kind = sizes[i % len(sizes)], i % 3
            mask = np.full((side, side), min(kind, 1), np.uint8)
            if kind == 2:
                mask[:, : side // 2] = 0
            pixels = np.where(mask[..., None] == 0, tissue(0, rng, side), tissue(1, rng, side))
            Image.fromarray(pixels).save(root / f"images/p{i:02d}.png")
            Image.fromarray(mask).save(root / f"masks/p{i:02d}.png")
            labels = ",".join(str(int((mask == k).any())) for k in range(2))
            rows.append(f"images/p{i:02d}.png,slide-{i % groups},{labels}{extra}")
        (root / "labels.csv").write_text("\n".join(rows) + "\n")
        classes.write(root / "classes.toml")
        return load_patches(root, masks=root / "masks" if masks else None)

    return make


@pytest.fixture
def patches(make_patches: MakePatches) -> PatchSet:
    return make_patches()


SMALL = {
    "encoder": {"name": "test_resnet", "weights": "random", "upscale": 1.0},
    "epochs": 2,
    "steps_per_epoch": 2,
    "batch_size": 4,
    "precision": "fp32",
    "validation_share": 0.3,
}


@pytest.fixture
def classifier_settings() -> Callable[..., ClassifierSettings]:
    return lambda **changes: ClassifierSettings.from_dict({**SMALL, **changes})


@pytest.fixture
def segmenter_settings() -> Callable[..., SegmenterSettings]:
    return lambda **changes: SegmenterSettings.from_dict(
        {**SMALL, "decoder_channels": 16, **changes}
    )


@pytest.fixture
def events() -> list[Event]:
    return []
