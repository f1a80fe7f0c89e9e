"""Opening: every format, the resolution, and how pixels are brought to RGB."""

import hashlib
import pickle
import time

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_wsss.errors import MissingResolutionError, SlideError
from napari_wsss.slides import Slide, open_slide
from napari_wsss.slides.fingerprint import file_fingerprint
from napari_wsss.slides.opening import SLIDE_SUFFIXES
from napari_wsss.slides.readers.openslide import OpenSlideReader


def test_pyramidal_tiff(tiled_tiff, picture):
    slide = open_slide(tiled_tiff)
    image = picture(300, 421)
    assert slide.name == "tiled"
    assert slide.shape == (300, 421)
    assert [level.shape for level in slide.levels] == [(300, 421, 3), (150, 211, 3), (75, 106, 3)]
    assert slide.downsamples == ((1, 1), (2, 2), (4, 4))
    assert slide.mpp == pytest.approx(0.5)
    for i, level in enumerate(slide.levels):
        np.testing.assert_array_equal(level.compute(), image[:: 2**i, :: 2**i])
    np.testing.assert_array_equal(slide.read_region(0, 60, 200, 100, 150), image[60:160, 200:350])


@pytest.mark.parametrize(
    "options",
    [
        {"compression": None},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 7},
        {"compression": "jpeg", "tile": (64, 64)},
        {"compression": "jpeg", "tile": (64, 64), "subsampling": (2, 2)},
        {"compression": "jpeg2000", "tile": (64, 64)},
        {"planarconfig": "separate", "tile": (32, 32), "compression": "zlib"},
        {"bigtiff": True},
        {"ome": True},
        {"byteorder": ">", "tile": (64, 48)},
    ],
    ids=str,
)
def test_tiff_layouts_equal_tifffile(tmp_path, picture, options):
    path = tmp_path / "a.tif"
    image = picture(150, 131)
    if options.get("planarconfig") == "separate":
        image = np.ascontiguousarray(np.moveaxis(image, -1, 0))
    tifffile.imwrite(path, image, photometric="rgb", **options)
    expected = tifffile.imread(path)
    if expected.shape[0] == 3:
        expected = np.moveaxis(expected, 0, -1)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.read_region(0, 0, 0, 150, 131), expected)
        np.testing.assert_array_equal(slide.read_region(0, 63, 10, 9, 90), expected[63:72, 10:100])


def test_region_outside_is_white(tiled_tiff, picture):
    slide = open_slide(tiled_tiff)
    region = slide.read_region(0, -10, 400, 30, 50)
    assert (region[:10] == 255).all()
    assert (region[:, 21:] == 255).all()
    np.testing.assert_array_equal(region[10:, :21], picture(300, 421)[:20, 400:])
    assert (slide.read_region(2, 1000, 1000, 4, 5) == 255).all()
    with pytest.raises(SlideError, match="levels 0 to 2"):
        slide.read_region(3, 0, 0, 4, 4)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("L", (90, 90, 90)), ("RGB", (10, 20, 30)), ("RGBA", (255, 255, 255)), ("P", (10, 20, 30))],
)
def test_png_modes_become_rgb_on_white(tmp_path, mode, expected):
    color = {"L": 90, "RGB": (10, 20, 30), "RGBA": (10, 20, 30, 0), "P": (10, 20, 30)}[mode]
    image = Image.new("RGB" if mode == "P" else mode, (9, 7), color)
    image = image.quantize(4) if mode == "P" else image
    image.save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png")
    assert slide.shape == (7, 9)
    assert (slide.levels[0].compute() == expected).all()


def test_half_transparent_is_half_white():
    rgba = np.zeros((4, 4, 4), np.uint8)
    rgba[..., 3] = 51
    assert (open_slide(rgba).read_region(0, 0, 0, 4, 4) == 204).all()


def test_cmyk_jpeg_is_converted(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 0, 0)).save(tmp_path / "a.jpg")
    pixel = open_slide(tmp_path / "a.jpg").read_region(0, 4, 4, 1, 1)[0, 0]
    assert pixel[0] > 200
    assert pixel[1] < 60


@pytest.mark.parametrize(
    "make",
    [
        lambda a: a,
        lambda a: np.moveaxis(a, -1, 0),
        lambda a: da.from_array(a, chunks=(32, 32, 3)),
        lambda a: zarr.array(a, chunks=(32, 32, 3)),
        lambda a: [a, a[::2, ::2]],
        lambda a: (da.from_array(a), da.from_array(a[::2, ::2])),
    ],
    ids=["numpy", "channels first", "dask", "zarr", "list", "dask pyramid"],
)
def test_arrays(picture, make):
    image = picture(70, 90)
    slide = open_slide(make(image), mpp=0.25, name="mine")
    assert (slide.name, slide.mpp, slide.shape) == ("mine", 0.25, (70, 90))
    np.testing.assert_array_equal(slide.read_region(0, 5, 6, 20, 30), image[5:25, 6:36])
    np.testing.assert_array_equal(
        slide.levels[-1].compute(), image if len(slide.levels) == 1 else image[::2, ::2]
    )


@pytest.mark.parametrize(
    ("source", "match"),
    [
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4), np.float32), "float32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((5, 6, 7), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        ([], "no levels"),
        ([np.zeros((4, 4), np.uint8), np.zeros((8, 8), np.uint8)], "larger than level 0"),
        ([np.zeros((40, 40), np.uint8), np.zeros((20, 5), np.uint8)], "aspect ratio"),
        (7, "int cannot be opened"),
    ],
)
def test_unusable_arrays(source, match):
    with pytest.raises(SlideError, match=match):
        open_slide(source)


def test_deep_files_name_their_type(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint16), photometric="rgb")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(tmp_path / "a.png")
    for name in ("a.tif", "a.png"):
        with pytest.raises(SlideError, match="uint16"):
            open_slide(tmp_path / name)


def test_stack_is_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "z.ome.tif", np.zeros((5, 32, 32), np.uint8), metadata={"axes": "ZYX"}
    )
    with pytest.raises(SlideError, match="axes ZYX"):
        open_slide(tmp_path / "z.ome.tif")


# -- resolution ---------------------------------------------------------------------


def _tagged(path, resolution, unit):
    tifffile.imwrite(
        path,
        np.zeros((32, 32, 3), np.uint8),
        photometric="rgb",
        resolution=resolution,
        resolutionunit=unit,
        metadata=None,
    )
    return open_slide(path)


@pytest.mark.parametrize(
    ("resolution", "unit", "mpp"),
    [
        ((40000, 40000), "CENTIMETER", 0.25),
        ((50800, 50800), "INCH", 0.5),
        ((40000, 40200), "CENTIMETER", 0.249378),
        ((40000, 20000), "CENTIMETER", None),
        ((72, 72), "INCH", None),
        ((96, 96), "INCH", None),
        ((300, 300), "INCH", None),
        ((1, 1), "NONE", None),
        ((0, 1), "CENTIMETER", None),
        ((10**9, 10**9), "CENTIMETER", None),
    ],
)
def test_resolution_tags(tmp_path, resolution, unit, mpp):
    found = _tagged(tmp_path / "a.tif", resolution, unit).mpp
    assert found == (None if mpp is None else pytest.approx(mpp, rel=1e-4))


def test_raw_resolution_is_kept_and_named(tmp_path):
    slide = _tagged(tmp_path / "a.tif", (72, 72), "INCH")
    assert slide.properties["mpp-x"] == pytest.approx(352.78, abs=0.01)
    with pytest.raises(MissingResolutionError, match=r"(?s)352.*--mpp"):
        slide.require_mpp()
    assert slide.with_mpp(0.5).require_mpp() == 0.5


def test_ome_xml_resolution(tmp_path):
    for unit, value in (("µm", 0.25), ("nm", 250)):
        tifffile.imwrite(
            tmp_path / "a.ome.tif",
            np.zeros((32, 32, 3), np.uint8),
            photometric="rgb",
            metadata={
                "PhysicalSizeX": value,
                "PhysicalSizeXUnit": unit,
                "PhysicalSizeY": value,
                "PhysicalSizeYUnit": unit,
            },
        )
        slide = open_slide(tmp_path / "a.ome.tif")
        assert slide.mpp == pytest.approx(0.25)
        assert slide.name == "a"


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), 1e6, "fast", True])
def test_given_resolution_is_checked(mpp):
    with pytest.raises(SlideError, match="micrometres per pixel"):
        open_slide(np.zeros((4, 4, 3), np.uint8), mpp=mpp)


# -- identity -----------------------------------------------------------------------


def test_fingerprint_follows_the_content(tiled_tiff, tmp_path, picture):
    first = open_slide(tiled_tiff).fingerprint
    assert first == open_slide(tiled_tiff).fingerprint
    moved = tmp_path / "other.tif"
    data = bytearray(tiled_tiff.read_bytes())
    moved.write_bytes(data)
    assert open_slide(moved).fingerprint == first
    data[-1] ^= 1
    moved.write_bytes(data)
    assert open_slide(moved).fingerprint != first
    image = picture(50, 60)
    assert open_slide(image).fingerprint == open_slide(image.copy()).fingerprint
    assert open_slide(image).fingerprint != open_slide(255 - image).fingerprint


def test_fingerprint_sees_a_change_in_the_middle(tiled_tiff):
    first = open_slide(tiled_tiff).fingerprint
    data = bytearray(tiled_tiff.read_bytes())
    data[len(data) // 2] ^= 1
    tiled_tiff.write_bytes(data)
    assert open_slide(tiled_tiff).fingerprint != first


def test_fingerprint_of_a_large_file_is_of_samples(tmp_path):
    path = tmp_path / "large.svs"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    began = time.perf_counter()
    first = file_fingerprint(path)
    assert time.perf_counter() - began < 0.5
    for place in range(0, 1 << 30, (1 << 30) // 33):
        with path.open("r+b") as file:
            file.seek(min(place + 1000, (1 << 30) - 1))
            file.write(b"x")
        changed = file_fingerprint(path)
        assert changed != first
        first = changed


def test_fingerprint_covers_the_files_that_belong_to_an_index(tmp_path):
    reader = OpenSlideReader.__new__(OpenSlideReader)
    reader.path = tmp_path / "a.mrxs"
    reader.path.write_bytes(b"index")
    assert reader.companions() == []
    (tmp_path / "a").mkdir()
    for name in ("Slidedat.ini", "Data0000.dat", "Data0001.dat"):
        (tmp_path / "a" / name).write_bytes(name.encode() * 1000)
    first = reader.fingerprint()
    for name in (".DS_Store", "Thumbs.db"):  # which file managers leave behind
        (tmp_path / "a" / name).write_bytes(b"icons")
    assert reader.fingerprint() == first
    (tmp_path / "a/Data0001.dat").write_bytes(b"Data0009.dat" * 1000)
    second = reader.fingerprint()
    (tmp_path / "a/Data0001.dat").rename(tmp_path / "a/Data0002.dat")
    assert len({first, second, reader.fingerprint()}) == 3
    reader.path = tmp_path / "b.vms"
    (tmp_path / "b.jpg").write_bytes(b"pixels")
    reader.path.write_text("[Virtual Microscope Specimen]\nImageFile=../b.jpg\nNoLayers=1\n")
    assert reader.companions() == [tmp_path / "b.jpg"]
    reader.path.unlink()
    with pytest.raises(SlideError, match=r"b\.vms can no longer be read"):
        reader.fingerprint()


def test_fingerprints_of_earlier_versions_are_known(tiled_tiff, picture):
    data = tiled_tiff.read_bytes()
    earlier = hashlib.sha256(f"{len(data)}\0".encode() + data[: 1 << 20] * 2).hexdigest()
    slide = open_slide(tiled_tiff)
    assert slide.fingerprint != earlier
    assert slide.was(slide.fingerprint)
    assert slide.was(earlier)
    assert not slide.was("another")
    assert not open_slide(picture(50, 60)).was(earlier)


def test_slide_of_a_file_travels_by_pickle(tiled_tiff):
    slide = open_slide(tiled_tiff, mpp=0.3)
    other = pickle.loads(pickle.dumps(slide))
    assert other.mpp == 0.3
    np.testing.assert_array_equal(
        other.read_region(1, 3, 5, 40, 50), slide.read_region(1, 3, 5, 40, 50)
    )


def test_slide_can_be_made_from_levels_alone(picture):
    image = picture(40, 50)
    slide = Slide("bare", (da.from_array(image, chunks=(16, 16, 3)),))
    np.testing.assert_array_equal(slide.read_region(0, 3, 4, 20, 30), image[3:23, 4:34])


def test_closed_slide_says_so(tiled_tiff):
    slide = open_slide(tiled_tiff)
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_region(0, 0, 0, 8, 8)


# -- real files ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "levels", "mpp"),
    [
        ("cmu-1-small-region.svs", (2967, 2220), 1, 0.499),
        ("tcga-cr-7395-01a-01-ts1.svs", (3567, 4443), 2, None),
        ("small_HE_levels.tiff", (250, 300), 4, None),
    ],
)
def test_real_slides_equal_openslide(real, name, shape, levels, mpp):
    openslide = pytest.importorskip("openslide")
    slide = open_slide(real(name))
    assert (slide.shape, len(slide.levels), slide.mpp) == (shape, levels, mpp)
    y, x = shape[0] // 2, shape[1] // 3
    with openslide.OpenSlide(str(real(name))) as other:
        expected = np.asarray(other.read_region((x, y), 0, (300, 120)))[..., :3]
    ours = slide.read_region(0, y, x, 120, 300)
    height, width = min(120, shape[0] - y), min(300, shape[1] - x)
    np.testing.assert_array_equal(ours[:height, :width], expected[:height, :width])


def test_openslide_reader_on_a_real_slide(real):
    pytest.importorskip("openslide")
    from napari_wsss.slides.readers.openslide import OpenSlideReader

    path = real("cmu-1-small-region.svs")
    slide = Slide.from_reader(OpenSlideReader(path), "cmu", path=path)
    assert slide.mpp == pytest.approx(0.499)
    np.testing.assert_array_equal(
        slide.read_region(0, 2900, 2000, 100, 300),
        open_slide(path).read_region(0, 2900, 2000, 100, 300),
    )
    again = pickle.loads(pickle.dumps(slide))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_region(0, 0, 0, 8, 8)
    assert again.read_region(0, 0, 0, 8, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("suffix", [".btf", ".qptiff", ".SVS"])
def test_tiffs_of_other_names(tmp_path, picture, suffix):
    path = tmp_path / f"a{suffix}"
    tifffile.imwrite(path, picture(80, 90), photometric="rgb", tile=(32, 32))
    assert path.suffix.lower() in SLIDE_SUFFIXES
    assert open_slide(path).shape == (80, 90)


def test_what_openslide_cannot_read_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.zvi"
    path.write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    with pytest.raises(SlideError, match="no format that is known"):
        open_slide(path)
