"""Corrected regions as training patches, and training from pseudo and true masks together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_wsss.cams import PseudoMasks
from napari_wsss.cams.store import PseudoMaskWriter, write_record
from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, DataError, OutputError, SlideError
from napari_wsss.inference import correct_region, segment_slide
from napari_wsss.jobs import CancelToken
from napari_wsss.models import ModelInfo, Segmenter, read_info
from napari_wsss.patches import extending, load_patches
from napari_wsss.settings import EncoderSettings, InferenceSettings
from napari_wsss.slides import ResampledSlide, open_slide
from napari_wsss.training import (
    TrueMasks,
    add_corrections,
    read_corrections,
    train_segmenter,
    with_corrections,
)

SIDE = 32
NAMES = ["dots", "lines"]


@pytest.fixture(scope="module")
def slide():
    coarse = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    return open_slide(coarse.repeat(16, 0).repeat(16, 1), mpp=0.5, name="a")


@pytest.fixture
def result(slide, tmp_path):
    torch.manual_seed(0)
    info = ModelInfo(
        kind="segmenter",
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture={"decoder_channels": 16, "encoder_stages": 3},
        classes=ClassTable.from_names(NAMES).to_dict(),
        mpp=1.0,
        patch_size_px=SIDE,
    )
    settings = InferenceSettings(tissue_only=False, precision="fp32")
    return segment_slide(slide, Segmenter(info).eval(), tmp_path, settings)


@pytest.fixture
def corrected(result):
    """A region of 70 x 96 px at (40, 30): half of each class, with a strip of background."""
    labels = np.ones((70, 96), np.uint8)
    labels[:, 48:] = 2
    labels[:10] = 0
    return correct_region(result, 40, 30, labels)


def test_patches_are_the_slide_and_the_labels_at_the_same_place(corrected, slide, tmp_path):
    found = add_corrections(corrected, slide, tmp_path / "c", 40, 30, 70, 96)
    assert found.names == load_patches(tmp_path / "c").names
    assert len(found) == 9  # rows at 0, 32 and, moved back inside, 38; three columns
    assert (found.mpp, found.classes.names) == (1.0, tuple(NAMES))
    assert set(found.groups) == {"a/y40_x30_70x96"}
    grid = ResampledSlide(slide, 1.0)
    labels = corrected.labels[:]
    for i, name in enumerate(found.names):
        y, x = (int(part[1:]) for part in name.split("_")[1:3])
        np.testing.assert_array_equal(found.read(i), grid.read(y, x, SIDE, SIDE))
        stored = labels[y : y + SIDE, x : x + SIDE]
        np.testing.assert_array_equal(
            found.read_mask(i), np.where(stored == 0, 255, stored.astype(int) - 1)
        )
        share = [(stored == k + 1).mean() for k in range(2)]
        assert found.labels[i].tolist() == [s >= 0.05 for s in share]


def test_a_region_added_again_takes_its_own_place_only(corrected, slide, tmp_path):
    folder = tmp_path / "c"
    add_corrections(corrected, slide, folder, 40, 30, 70, 96)
    both = add_corrections(corrected, slide, folder, 0, 0, 32, 40)
    assert len(both) == 11
    changed = correct_region(corrected, 40, 30, np.full((70, 96), 2, np.uint8))
    again = add_corrections(changed, slide, folder, 40, 30, 70, 96)
    assert len(again) == 11
    first = np.array(again.groups) == "a/y40_x30_70x96"
    assert first.sum() == 9
    assert again.labels[first].tolist() == [[False, True]] * 9
    for i in np.flatnonzero(first):
        assert (again.read_mask(int(i)) == 1).all()
    assert len(list((folder / "images").iterdir())) == 11
    assert len(list((folder / "masks").iterdir())) == 11


def test_regions_and_folders_that_do_not_do(corrected, slide, tmp_path):
    folder = tmp_path / "c"
    with pytest.raises(DataError, match="32 x 32 px, so it must be"):
        add_corrections(corrected, slide, folder, 0, 0, 31, 90)
    other = open_slide(np.zeros((300, 320, 3), np.uint8), mpp=0.5, name="b")
    with pytest.raises(SlideError, match="not the slide"):
        add_corrections(corrected, other, folder, 40, 30, 70, 96)
    empty = correct_region(corrected, 0, 0, np.zeros((32, 64), np.uint8))
    with pytest.raises(DataError, match="nothing was added"):
        add_corrections(empty, slide, folder, 0, 0, 32, 64)
    assert not (folder / "dataset.toml").exists()
    add_corrections(corrected, slide, folder, 40, 30, 70, 96)
    table = ClassTable.from_names(["x", "y"])
    with pytest.raises(DataError, match="has the classes dots, lines"):
        add_corrections(replace(corrected, classes=table), slide, folder, 40, 30, 70, 96)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/words.txt").write_text("words")
    with pytest.raises(OutputError, match="no set of corrections"):
        add_corrections(corrected, slide, tmp_path / "thesis", 40, 30, 70, 96)


@pytest.mark.parametrize("after", [0, 1, 5, 18, 19, 20, 21])
def test_a_failure_adds_nothing_or_all(corrected, slide, tmp_path, monkeypatch, after):
    folder = tmp_path / "c"
    add_corrections(corrected, slide, folder, 0, 0, 32, 40)
    before = read_corrections(folder)
    write, done = extending.write_atomic, []

    def refuse(path, data):
        done.append(path)
        if len(done) > after:
            raise OutputError(f"The disk of {path} is full.")
        write(path, data)

    monkeypatch.setattr(extending, "write_atomic", refuse)
    if after < 19:
        with pytest.raises(OutputError, match="is full"):
            add_corrections(corrected, slide, folder, 40, 30, 70, 96)
        assert read_corrections(folder).fingerprint == before.fingerprint
        assert len(list((folder / "images").iterdir())) == 2
    else:
        assert len(add_corrections(corrected, slide, folder, 40, 30, 70, 96)) == 11


def test_a_cancelled_job_adds_nothing(corrected, slide, tmp_path):
    token = CancelToken()
    with pytest.raises(CancelledError, match="Nothing was added"):
        add_corrections(
            corrected, slide, tmp_path / "c", 40, 30, 70, 96,
            on_event=lambda _: token.cancel(), cancel=token,
        )  # fmt: skip
    assert not list((tmp_path / "c/images").iterdir())


# -- training on both --------------------------------------------------------------------------


@pytest.fixture
def pseudo(make_patches, tmp_path):
    """Patches without masks, and three depths of pseudo masks of them that say "lines"."""
    patches = replace(make_patches(12, masks=False), mpp=1.0)
    folder = tmp_path / "pseudo"
    writer = PseudoMaskWriter(folder, patches.classes, 3)
    for name in patches.names:
        writer.write(name, np.ones((3, SIDE, SIDE), np.uint8), np.ones((SIDE, SIDE), np.uint8))
    patches.classes.with_index_values().write(folder / "classes.toml")
    write_record(folder, {"complete": True, "depths": 3, "fingerprint": "f"})
    return patches, PseudoMasks(folder)


@pytest.fixture
def corrections(corrected, slide, tmp_path):
    return add_corrections(corrected, slide, tmp_path / "c", 40, 30, 70, 96)


def test_each_patch_has_the_targets_that_are_its_own(pseudo, corrections):
    patches, weak = pseudo
    together, targets = with_corrections(patches, weak, corrections)
    assert together.names == patches.names + corrections.names
    for name in patches.names:
        np.testing.assert_array_equal(targets.targets(name), weak.targets(name))
    for i, name in enumerate(corrections.names):
        np.testing.assert_array_equal(targets.targets(name), [corrections.read_mask(i)] * 3)
    with pytest.raises(DataError, match="cannot be joined"):
        with_corrections(replace(patches, mpp=0.25), weak, corrections)


def test_the_model_says_what_it_was_trained_from(
    pseudo, corrections, segmenter_settings, tmp_path
):
    patches, weak = pseudo
    out = tmp_path / "s.safetensors"
    model = train_segmenter(patches, weak, out, segmenter_settings(), corrections=corrections)
    assert model.info.supervision == "pseudo masks and 9 true masks"
    assert read_info(out).supervision == "pseudo masks and 9 true masks"
    plain = train_segmenter(patches, weak, tmp_path / "p.safetensors", segmenter_settings())
    assert plain.info.supervision == "pseudo masks"
    assert any(
        not torch.equal(a, b)
        for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True)
    )


def test_true_masks_and_corrections_are_true_masks(
    make_patches, corrections, segmenter_settings, tmp_path
):
    patches = replace(make_patches(12), mpp=1.0)
    model = train_segmenter(
        patches, TrueMasks(patches), tmp_path / "s.safetensors", segmenter_settings(),
        corrections=corrections,
    )  # fmt: skip
    assert model.info.supervision == "true masks"


def test_a_changed_correction_is_another_run(pseudo, corrections, corrected, slide, tmp_path):
    patches, weak = pseudo
    before = with_corrections(patches, weak, corrections)[1].fingerprint
    changed = correct_region(corrected, 60, 60, np.full((5, 5), 2, np.uint8))
    again = add_corrections(changed, slide, tmp_path / "c", 40, 30, 70, 96)
    assert with_corrections(patches, weak, again)[1].fingerprint != before


def test_the_command_line_gives_the_same_model(pseudo, corrections, segmenter_settings, tmp_path):
    from typer.testing import CliRunner

    from napari_wsss.cli.app import app

    patches, weak = pseudo
    settings = tmp_path / "s.toml"
    expected = segmenter_settings()
    import tomli_w

    settings.write_text(tomli_w.dumps(expected.model_dump(mode="json")))
    train_segmenter(
        patches, weak, tmp_path / "a.safetensors", expected, corrections=corrections, device="cpu"
    )
    words = [
        "train-segmenter", str(patches.root), "--pseudo-masks", str(weak.folder), "--mpp", "1.0",
        "--corrections", str(corrections.root), "--out", str(tmp_path / "b.safetensors"),
        "--settings", str(settings), "--device", "cpu", "--json", str(tmp_path / "b.json"),
    ]  # fmt: skip
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()
    summary = json.loads((tmp_path / "b.json").read_text())
    assert summary["supervision"] == "pseudo masks and 9 true masks"
