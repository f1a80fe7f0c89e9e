"""A command line to call, tiny images with masks, and models trained on them for a step."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from napari_wsss.cli.app import app

TINY = [
    *("--set", "encoder.weights=random"),
    *("--set", "encoder.upscale=1.0"),
    *("--set", "encoder.output_stride=32"),
    *("--set", "epochs=1"),
    *("--set", "steps_per_epoch=1"),
    *("--set", "batch_size=2"),
    *("--set", "validation_share=0"),
    *("--device", "cpu"),
    "--quiet",
]

CLASSES = """
ignore = [9]
[[class]]
name = "tumour"
value = 1
color = "#d55e00"
[[class]]
name = "stroma"
value = 4
color = "#009e73"
"""


def call(*args):
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture(scope="session")
def cli():
    return call


@pytest.fixture(scope="session")
def tiny():
    return TINY


@pytest.fixture(scope="session")
def process():
    """Run the command line as a process of its own."""

    def run(*args, **env):
        return subprocess.run(
            [sys.executable, "-m", "napari_wsss.cli", *map(str, args)],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1", **env},
        )

    return run


@pytest.fixture(scope="session")
def pairs(tmp_path_factory):
    """Folder with images/, masks/ and classes.toml: 3 images of 64 x 96 px, left class 1."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    for i in range(3):
        mask = np.full((64, 96), 4, np.uint8)
        mask[:, :40] = 1
        mask[:4, :4] = 9
        image = np.where(mask[..., None] == 1, (120, 60, 140), (220, 150, 180))
        image = (image + rng.integers(-20, 20, (64, 96, 3))).clip(0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"case{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"case{i}.png")
    (folder / "classes.toml").write_text(CLASSES)
    return folder


@pytest.fixture(scope="session")
def dataset(pairs, tmp_path_factory):
    """A patch set of 18 patches of 32 px that 'patches from-masks' wrote, at 0.5 µm/px."""
    out = tmp_path_factory.mktemp("sets") / "dataset"
    result = call(
        *("patches", "from-masks", pairs / "images", pairs / "masks"),
        *("--classes", pairs / "classes.toml", "--size", 32, "--stride", 32),
        *("--min-share", 0.05, "--mpp", 0.5, "--out", out, "--quiet"),
    )
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def classifier(dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "classifier.safetensors"
    result = call("train-classifier", dataset, "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def pseudo(dataset, classifier, tmp_path_factory):
    out = tmp_path_factory.mktemp("masks") / "pseudo"
    result = call("pseudo-masks", dataset, "--classifier", classifier, "--out", out, "--quiet")
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def segmenter(dataset, pseudo, tmp_path_factory):
    out = tmp_path_factory.mktemp("models") / "segmenter.safetensors"
    result = call("train-segmenter", dataset, "--pseudo-masks", pseudo, "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    return out


@pytest.fixture(scope="session")
def slide(pairs, tmp_path_factory):
    """A PNG of 128 x 160 px that does not say its µm/px."""
    path = tmp_path_factory.mktemp("slides") / "a [1 0].png"
    with Image.open(pairs / "images" / "case0.png") as image:
        image.resize((160, 128)).save(path)
    return path


@pytest.fixture(scope="session")
def result(slide, segmenter, tmp_path_factory):
    """The segmentation of `slide`."""
    out = tmp_path_factory.mktemp("results")
    done = call(
        *("segment", slide, "--model", segmenter, "--out", out, "--mpp", 0.5),
        *("--set", "block_px=64", "--quiet"),
    )
    assert done.exit_code == 0, done.output
    return out / f"{slide.stem}.ome.zarr"
