"""The synthetic slide: reproducible, true to its truth, and not solved by colour alone."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_wsss.classes import IGNORE, ClassTable
from napari_wsss.errors import OutputError, SettingsError
from napari_wsss.samples import synthetic_slide

TUMOUR, STROMA, LYMPHOCYTES, NECROSIS = range(4)


@pytest.fixture(scope="module")
def slide():
    return synthetic_slide((768, 768), seed=0)


def haematoxylin(slide):
    """Return (H, W): optical density in red, where eosin hardly absorbs."""
    return -np.log(np.maximum(slide.image[..., 0], 1) / 243)


def test_shapes_types_and_classes(slide):
    assert slide.image.shape == (768, 768, 3)
    assert slide.image.dtype == slide.truth.dtype == np.uint8
    assert slide.truth.shape == (768, 768)
    assert slide.classes.names == ("tumour", "stroma", "lymphocytes", "necrosis")
    assert set(np.unique(slide.truth)) == {0, 1, 2, 3, IGNORE}


def test_same_arguments_same_slide_other_seed_other_slide():
    a, b = (synthetic_slide((160, 200), seed=5, mpp=0.8) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.truth, b.truth)
    other = synthetic_slide((160, 200), seed=6, mpp=0.8)
    assert np.mean(a.truth != other.truth) > 0.1


def test_global_random_state_is_neither_used_nor_changed():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    synthetic_slide((64, 64))
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("seed", range(4))
def test_every_class_has_its_share(seed):
    truth = synthetic_slide((384, 384), seed=seed).truth
    tissue = truth != IGNORE
    shares = np.bincount(truth[tissue], minlength=4) / tissue.sum()
    assert 0.4 < tissue.mean() < 0.98
    assert shares.min() > 0.08
    assert shares.max() < 0.55


def test_patches_hold_one_class_or_several():
    truth = synthetic_slide((1024, 1024), seed=1).truth
    counts = []
    for y in range(0, 1024 - 112, 112):
        for x in range(0, 1024 - 112, 112):
            patch = truth[y : y + 112, x : x + 112]
            counts.append(int(np.sum(np.bincount(patch.ravel(), minlength=256)[:4] > 627)))
    counts = np.array(counts)
    assert np.mean(counts == 1) > 0.15
    assert np.mean(counts >= 2) > 0.3


def test_glass_is_white_and_tissue_is_stained(slide):
    glass = slide.image[slide.truth == IGNORE]
    assert glass.mean() > 232
    assert 0.3 < glass.std() < 25
    for k in range(4):
        assert slide.image[slide.truth == k].mean(axis=0).max() < 228, slide.classes.names[k]


def test_colours_overlap_and_texture_differs(slide):
    mean = np.stack([slide.image[slide.truth == k].mean(axis=0) for k in range(4)])
    spread = np.stack([slide.image[slide.truth == k].std(axis=0) for k in range(4)])
    for a, b in ((TUMOUR, LYMPHOCYTES), (STROMA, NECROSIS)):
        apart = np.abs(mean[a] - mean[b]) / np.sqrt(spread[a] * spread[b])
        assert apart.max() < 1.0, (a, b)
    density = haematoxylin(slide)
    # Lymphocytes: darker nuclei on a paler ground than tumour; stroma and necrosis: few nuclei.
    contrast = [np.std(density[slide.truth == k]) for k in range(4)]
    assert contrast[LYMPHOCYTES] > 1.15 * contrast[TUMOUR]
    assert contrast[TUMOUR] > 1.15 * contrast[STROMA]


def nuclei_diameters_um(slide, k):
    """Return the diameters, in µm, of dark connected spots inside class `k`."""
    from skimage.measure import label, regionprops

    dark = (haematoxylin(slide) > 0.62) & (slide.truth == k)
    spots = regionprops(label(dark))
    return np.array([s.equivalent_diameter_area for s in spots if s.area >= 4]) * slide.mpp


def test_dust_of_necrosis_is_finer_than_lymphocytes(slide):
    dust, lymphocytes = (np.median(nuclei_diameters_um(slide, k)) for k in (NECROSIS, LYMPHOCYTES))
    assert dust < lymphocytes
    assert 3.0 < lymphocytes < 8.0


def test_mpp_sets_the_size_in_pixels():
    coarse, fine = (synthetic_slide((400, 400), seed=2, mpp=mpp) for mpp in (1.0, 0.5))
    a, b = (np.median(nuclei_diameters_um(s, LYMPHOCYTES)) for s in (coarse, fine))
    assert a == pytest.approx(b, rel=0.35)
    assert coarse.mpp == 1.0
    assert fine.mpp == 0.5


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    height=st.integers(64, 150),
    width=st.integers(64, 150),
    mpp=st.floats(0.2, 4),
    seed=st.integers(0, 2**31),
)
def test_any_size_seed_and_resolution_draws(height, width, mpp, seed):
    slide = synthetic_slide((height, width), seed=seed, mpp=mpp)
    assert slide.image.shape == (height, width, 3)
    assert slide.truth.shape == (height, width)
    assert set(np.unique(slide.truth)) <= {0, 1, 2, 3, IGNORE}


def test_saved_files_read_back(slide, tmp_path):
    slide.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    with tifffile.TiffFile(folder / "slide.tif") as file:
        np.testing.assert_array_equal(file.asarray(), slide.image)
        assert file.pages.first.is_tiled
        assert 'PhysicalSizeX="1.0"' in file.ome_metadata
    classes = ClassTable.read(folder / "classes.toml")
    assert classes == slide.classes
    with Image.open(folder / "truth.png") as picture:
        assert picture.mode == "P"
        mask = np.asarray(picture)
    assert set(np.unique(mask)) == {0, 1, 2, 3, 4}
    assert classes.unlisted(mask) == {}
    np.testing.assert_array_equal(classes.to_indices(mask), slide.truth)


def test_saved_slide_opens_with_its_resolution(tmp_path):
    from napari_wsss.slides import open_slide

    slide = synthetic_slide((128, 160), mpp=0.5)
    slide.save(tmp_path)
    opened = open_slide(tmp_path / "slide.tif")
    assert opened.mpp == pytest.approx(0.5)
    np.testing.assert_array_equal(np.asarray(opened.levels[0]), slide.image)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        synthetic_slide((64, 64)).save(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (63, 200)}, "63"),
        ({"shape": (200, 20_000)}, "20000"),
        ({"shape": (200, 200, 3)}, "height and width"),
        ({"mpp": 0.0}, "µm/px"),
        ({"mpp": float("nan")}, "µm/px"),
        ({"seed": -1}, "negative"),
    ],
)
def test_arguments_out_of_bounds_are_refused(arguments, message):
    with pytest.raises(SettingsError, match=message):
        synthetic_slide(**{"shape": (64, 64), **arguments})
