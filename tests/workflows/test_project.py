from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_wsss.cams import PseudoMasks
from napari_wsss.errors import DataError, OutputError, SettingsError
from napari_wsss.models import read_info
from napari_wsss.patches import cut_patches
from napari_wsss.workflows import run_project

TINY = """
epochs = 1
steps_per_epoch = 1
batch_size = 2
"""


def project(folder: Path, draw) -> Path:
    """Write a project with images of two tissues and a slide."""
    draw(folder / "data", 4)
    rng = np.random.default_rng(1)
    slide = rng.integers(60, 200, (150, 130, 3)).astype(np.uint8)
    Image.fromarray(slide).save(folder / "slide.png")
    file = folder / "project.toml"
    file.write_text(
        f"""
[project]
out = "run"
seed = 3
mpp = 1.0
[cut]
images = "data/images"
masks = "data/masks"
classes = "data/classes.toml"
size_px = 48
stride_px = 48
[classifier]
{TINY}
[classifier.encoder]
upscale = 1.0
[segmenter]
{TINY}
[segmenter.encoder]
upscale = 1.0
[evaluate]
images = "data/images"
masks = "data/masks"
[slides]
paths = ["slide.png"]
mpp = 1.0
"""
    )
    return file


def test_all_stages_run_once_and_are_then_skipped(tmp_path, draw_pictures):
    file = project(tmp_path, draw_pictures)
    first = run_project(file)
    assert set(first["stages"].values()) == {"done"}
    assert first["slides"]["slide"]["shape"] == [150, 130]
    run = tmp_path / "run"
    for name in ("evaluation.json", "report.html", "slides/slide.csv", "slides/slide.geojson.gz"):
        assert (run / name).stat().st_size > 100, name
    weights = (run / "segmenter.safetensors").read_bytes()
    second = run_project(file)
    skipped = {k for k, v in second["stages"].items() if v == "skipped"}
    assert skipped == {"cut", "classifier", "pseudo-masks", "segmenter", "slide slide"}
    assert (run / "segmenter.safetensors").read_bytes() == weights

    # Changed settings are not silently used with old results, nor old results deleted.
    file.write_text(file.read_text().replace("seed = 3", "seed = 4"))
    with pytest.raises(OutputError, match="classifier"):
        run_project(file)
    assert (run / "segmenter.safetensors").read_bytes() == weights


def test_a_second_round_goes_on_from_the_first(tmp_path, draw_pictures):
    file = project(tmp_path, draw_pictures)
    file.write_text(file.read_text().split("[evaluate]")[0])
    run_project(file)
    run = tmp_path / "run"
    first = (run / "segmenter.safetensors").read_bytes()
    file.write_text(file.read_text().replace("seed = 3", "seed = 3\nrounds = 2"))
    outcome = run_project(file)["stages"]
    done = {stage for stage, what in outcome.items() if what == "done"}
    assert done == {"pseudo-masks-2", "segmenter-2"}
    assert (run / "segmenter.safetensors").read_bytes() == first
    assert PseudoMasks(run / "pseudo-masks-2").made_by == "segmenter"
    assert (run / "segmenter-2.safetensors").is_file()
    assert set(run_project(file)["stages"].values()) == {"skipped"}


@pytest.mark.parametrize("key", ["corrections", "unlabelled"])
def test_a_misspelt_folder_is_told_before_anything_is_trained(tmp_path, draw_pictures, key):
    file = project(tmp_path, draw_pictures)
    file.write_text(file.read_text().replace("seed = 3", f'seed = 3\n{key} = "nowhere"'))
    with pytest.raises(DataError, match="nowhere"):
        run_project(file)
    assert not (tmp_path / "run/classifier.safetensors").exists()


def test_corrections_and_tiles_without_labels_are_learnt_from_besides(tmp_path, draw_pictures):
    images, masks = draw_pictures(tmp_path / "more", 1)
    for folder in (images, masks):
        (folder / "im0.png").rename(folder / "corrected.png")
    classes = tmp_path / "more/classes.toml"
    cut_patches(images, masks, classes, tmp_path / "corrections", size_px=48, stride_px=48, mpp=1)
    tiles = tmp_path / "tiles"
    tiles.mkdir()
    noise = np.random.default_rng(2).integers(60, 200, (3, 48, 48, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tiles / f"{i}.png")
    file = project(tmp_path, draw_pictures)
    text = file.read_text().split("[evaluate]")[0]
    both = 'seed = 3\ncorrections = "corrections"\nunlabelled = "tiles"'
    file.write_text(text.replace("seed = 3", both))
    run_project(file)
    info = read_info(tmp_path / "run/segmenter.safetensors")
    assert info.supervision.startswith("pseudo masks and ")
    assert info.supervision.endswith(" true masks")
    assert set(run_project(file)["stages"].values()) == {"skipped"}

    # By content: another mask of the same size is another input.
    mask = next((tmp_path / "corrections/masks").glob("*.png"))
    with Image.open(mask) as opened:
        other = Image.fromarray(np.asarray(opened)[:, ::-1].copy())
    other.save(mask)
    with pytest.raises(OutputError, match="'segmenter' was done with other data"):
        run_project(file)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[project]\nout = "x"\n', "either project.dataset"),
        ('[project]\nout = "x"\ndataset = "d"\nsed = 1\n', "project.sed"),
        ('[project]\nout = "x"\ndataset = "d"\n[classifier]\nepochs = 0\n', "classifier.epochs"),
        ("[project\n", "TOML"),
    ],
)
def test_files_that_are_not_understood_say_where(tmp_path, text, named):
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=named):
        run_project(file)


def test_missing_file(tmp_path):
    with pytest.raises(SettingsError, match="no project file"):
        run_project(tmp_path / "none.toml")
