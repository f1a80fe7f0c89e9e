"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.patches import PatchSet, load_patches

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real slides and patches; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("WSSS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}: set WSSS_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    """Two threads at most: more would slow the small networks of the tests down."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > 2:
        torch.set_num_threads(2)


@pytest.fixture
def make_overlapping(tmp_path: Path) -> Callable[..., PatchSet]:
    """Cut patches of classes a, b, c from one picture of noise; labels by their place."""

    def make(
        labels: dict[tuple[int, int], str],
        *,
        name: str = "slide_y{y:05d}_x{x:05d}",
        noise: int = 0,
        side: int = 48,
    ) -> PatchSet:
        root = tmp_path / "overlapping"
        root.mkdir()
        rng = np.random.default_rng(0)
        rest = [max(place[k] for place in labels) + side for k in (0, 1)]
        picture = rng.integers(60, 180, (*rest, 3), np.uint8)
        rows = ["path,a,b,c"]
        for (y, x), label in labels.items():
            pixels = picture[y : y + side, x : x + side].astype(int)
            pixels = pixels + rng.integers(-noise, noise + 1, pixels.shape)
            file = f"{name.format(y=y, x=x)}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / file)
            rows.append(f"{file},{','.join(label)}")
        (root / "labels.csv").write_text("\n".join(rows))
        ClassTable.from_names(["a", "b", "c"]).write(root / "classes.toml")
        return load_patches(root)

    return make
