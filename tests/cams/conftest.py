"""A patch set of noise with known labels, and a small classifier."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from napari_wsss.classes import ClassTable
from napari_wsss.models import Classifier, ModelInfo, Segmenter
from napari_wsss.patches import PatchSet, load_patches
from napari_wsss.settings import EncoderSettings

CLASSES = ClassTable.from_names(["a", "b", "c"], values=[0, 1, 2], ignore=[9])
#: Labels of the patches, two of them with one class only.
LABELS = ("101", "010", "110", "111", "001", "011")
MakePatches = Callable[..., PatchSet]
MakeClassifier = Callable[..., Classifier]


@pytest.fixture
def make_patches(tmp_path: Path) -> MakePatches:
    def make(
        labels: tuple[str, ...] = LABELS, *, sizes: tuple[int, ...] = (48,), white: int = 0
    ) -> PatchSet:
        """Write patches; the first `white` rows of each are glass."""
        root = tmp_path / "set"
        root.mkdir()
        rows = ["path,a,b,c"]
        for i, row in enumerate(labels):
            side = sizes[i % len(sizes)]
            pixels = np.random.default_rng(i).integers(60, 180, (side, side, 3), np.uint8)
            pixels[:, side // 2 :, i % 3] //= 3  # another colour on the right
            pixels[:white] = 250
            Image.fromarray(pixels).save(root / f"p{i}.png")
            rows.append(f"p{i}.png,{','.join(row)}")
        (root / "labels.csv").write_text("\n".join(rows))
        CLASSES.write(root / "classes.toml")
        return load_patches(root)

    return make


@pytest.fixture
def make_classifier() -> MakeClassifier:
    def make(
        *,
        name: str = "test_resnet",
        weights: str = "random",
        classes: ClassTable = CLASSES,
        **architecture,
    ) -> Classifier:
        torch.manual_seed(0)
        encoder = EncoderSettings(name=name, weights=weights, upscale=1.0, output_stride=16)
        model = Classifier(
            ModelInfo(
                kind="classifier",
                encoder=encoder,
                architecture=architecture,
                classes=classes.to_dict(),
                patch_size_px=48,
            )
        )
        for head in model.heads:  # maps of different sizes, so that arg-max is decided
            torch.nn.init.normal_(head.weight, std=1.0)
        return model.eval()

    return make


@pytest.fixture
def segmenter() -> Segmenter:
    """Return what an earlier round could have trained."""
    torch.manual_seed(0)
    encoder = EncoderSettings(name="tf_efficientnet_lite0", upscale=1.0)
    info = ModelInfo(
        kind="segmenter",
        encoder=encoder,
        architecture={"decoder": "unet", "decoder_channels": 16, "encoder_stages": 4},
        classes=CLASSES.to_dict(),
        patch_size_px=48,
    )
    model = Segmenter(info).eval()
    torch.nn.init.normal_(model.classifier.weight, std=1.0)
    return model


@pytest.fixture
def patches(make_patches: MakePatches) -> PatchSet:
    return make_patches()


@pytest.fixture
def classifier(make_classifier: MakeClassifier) -> Classifier:
    return make_classifier()
