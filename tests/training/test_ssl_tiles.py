"""Tiles of tissue: found, counted, read, and refused with reasons."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from napari_wsss.errors import (
    CancelledError,
    DataError,
    MissingResolutionError,
    SettingsError,
    SlideError,
)
from napari_wsss.jobs import CancelToken, Log, Progress, run_job
from napari_wsss.settings import PretrainSettings
from napari_wsss.slides import open_slide
from napari_wsss.training.ssl_tiles import tiles_job

GLASS = 243


def stained(height, width, seed=0):
    """Return (height, width, 3) of noisy violet tissue."""
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    return (np.array([150, 80, 160]) + noise).clip(0, 255).astype(np.uint8)


def half(height, width):
    """Return tissue whose right half is glass."""
    pixels = stained(height, width)
    pixels[:, width // 2 :] = GLASS
    return pixels


def settings(**changes):
    return PretrainSettings.from_dict({"tile_px": 32, "batch_size": 2, **changes})


def tiles(given, events=None, mpp=None, **changes):
    on_event = None if events is None else events.append
    return run_job(tiles_job(given, settings(**changes), mpp=mpp), on_event)


@pytest.fixture
def folder(tmp_path):
    """Three images: tissue, half tissue, and one that is smaller than a tile."""
    root = tmp_path / "images"
    root.mkdir()
    for name, pixels in (("a", stained(64, 96)), ("b", half(64, 128)), ("c", stained(20, 64))):
        Image.fromarray(pixels).save(root / f"{name}.png")
    (root / "notes.txt").write_text("nothing to see")
    return root


def test_only_tissue_is_taken(folder, events):
    found = tiles(folder, events)
    assert found.pixels.shape == (6 + 4, 32, 32, 3)
    assert found.sources == 2
    assert found.pixels.mean((1, 2, 3)).max() < 160  # glass is brighter
    assert "1 have no tile" in next(e.message for e in events if isinstance(e, Log))
    done = [e.done for e in events if isinstance(e, Progress) and e.stage == "Tissue"]
    assert done == [1, 2, 3]


def test_tiles_are_the_pixels_of_the_slide():
    pixels = stained(64, 64)
    found = tiles(open_slide(pixels))
    assert np.array_equal(found.pixels[3], pixels[32:, 32:])


def test_the_seed_chooses_among_many(folder):
    one, again, other = (tiles(folder, tiles=3, seed=s) for s in (0, 0, 1))
    assert len(one) == 3
    assert one.fingerprint == again.fingerprint != other.fingerprint


def test_slides_are_brought_to_the_wanted_resolution():
    slide = open_slide(stained(256, 256), mpp=0.25)
    assert len(tiles(slide)) == 16  # 0.5 µm/px
    assert len(tiles(slide, tile_mpp=1.0)) == 4
    assert len(tiles(slide, mpp=0.5)) == 64  # what the caller says counts
    assert len(tiles(open_slide(stained(64, 64), mpp=2.0))) == 4  # never enlarged by itself


def test_a_number_needs_slides_of_known_resolution():
    slide = open_slide(stained(64, 64))
    with pytest.raises(MissingResolutionError, match="--mpp"):
        tiles(slide, tile_mpp=1.0)
    assert len(tiles(slide, tile_mpp=1.0, mpp=1.0)) == 4


def test_patches_are_taken_from_the_training_split_as_they_are(make_patches, tmp_path):
    patches = make_patches(12, masks=False)
    found = tiles(patches, tile_mpp=0.25, min_tissue=0)
    assert np.array_equal(found.pixels[5], patches.read(5))
    assert len(tiles(patches.root, min_tissue=0)) == 12  # the folder is known as a patch set
    table = tmp_path / "set" / "labels.csv"
    rows = table.read_text().splitlines()
    split = [f"{row},{'test' if i > 4 else 'train'}" for i, row in enumerate(rows[1:])]
    table.write_text("\n".join([f"{rows[0]},split", *split]) + "\n")
    assert len(tiles(table, min_tissue=0)) == 5


def test_several_sources_come_together(folder):
    assert len(tiles([folder / "a.png", open_slide(stained(64, 64))])) == 6 + 4


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], DataError, "Name at least one slide"),
        ("empty", DataError, "neither slides nor images"),
        ("none.svs", SlideError, "There is no file"),
        ("broken.png", DataError, "broken.png"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path, given, error, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(error, match=message):
        tiles(tmp_path / given if isinstance(given, str) else given)


def test_a_slide_without_tissue_is_refused():
    glass = np.full((128, 128, 3), GLASS, np.uint8)
    with pytest.raises(DataError, match=r"at least 50% tissue.*too little tissue"):
        tiles(open_slide(glass))
    with pytest.raises(DataError, match=r"smaller than a tile \(lower tile_px\)"):
        tiles(open_slide(stained(16, 16)))


def test_too_few_tiles_for_a_batch_are_refused(folder):
    with pytest.raises(DataError, match=r"Only 10 tiles.*a batch needs 11.*lower batch_size"):
        tiles(folder, batch_size=11)


def test_more_than_memory_holds_is_refused(folder):
    with pytest.raises(SettingsError, match="Lower tiles or tile_px"):
        tiles(folder, tiles=1_000_000, tile_px=1024)


def test_it_can_be_cancelled(folder):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(CancelledError):
        run_job(tiles_job(folder, settings(), cancel=cancel))
