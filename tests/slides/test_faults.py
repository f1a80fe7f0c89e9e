"""Damaged and foreign input: a distinct message each, never silent white, never another error."""

import json
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from napari_wsss.errors import MissingDependencyError, SlideError, WsssError
from napari_wsss.slides import create_pyramid, open_slide
from napari_wsss.slides.readers.tiff_tiles import TileFile


def message(path, **options):
    with pytest.raises(SlideError) as caught:
        open_slide(path, **options)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_truncated_tiff(tiled_tiff, tmp_path, share):
    data = tiled_tiff.read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    text = message(path)
    assert "bytes are missing" in text or "damaged" in text


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs"])
def test_truncated_real_slide(real, tmp_path, name, share):
    data = real(name).read_bytes()
    path = tmp_path / "cut.svs"
    path.write_bytes(data[: int(len(data) * share)])
    text = message(path)
    assert "cut off" in text
    assert "bytes are missing" in text


def test_truncated_tiff_names_the_bytes(tmp_path):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb")
    path.write_bytes(path.read_bytes()[:-100])
    assert "100 bytes are missing" in message(path)


def test_three_distinct_messages(tmp_path):
    (tmp_path / "empty.svs").write_bytes(b"")
    (tmp_path / "page.svs").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (tmp_path / "note.svs").write_text("slides are in the other folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "noise.svs").write_bytes(bytes(range(256)) * 4)
    assert "is empty (0 bytes)" in message(tmp_path / "empty.svs")
    assert "web page (HTML)" in message(tmp_path / "page.svs")
    assert "holds text" in message(tmp_path / "note.svs")
    assert "folder without OME-Zarr" in message(tmp_path / "folder")
    assert "There is no file" in message(tmp_path / "absent.svs")
    assert "no format that is known" in message(tmp_path / "noise.svs")
    with pytest.raises(SlideError):
        open_slide("a\0b.svs")


@pytest.mark.parametrize("compression", ["jpeg", "zlib", "jpeg2000"])
def test_corrupt_tile_names_its_place(tmp_path, compression):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression=compression)
    with tifffile.TiffFile(path) as tif:
        offset, size = tif.pages[0].dataoffsets[6], tif.pages[0].databytecounts[6]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    slide = open_slide(path)
    with pytest.raises(SlideError, match=r"a\.tif .*level 0, y 64, x 128"):
        slide.read_region(0, 0, 0, 256, 256)
    with pytest.raises(SlideError, match="y 64, x 128"):
        slide.levels[0].compute(scheduler="synchronous")
    assert slide.read_region(0, 128, 0, 64, 64).std() > 10  # other tiles are still read


def test_lack_of_memory_is_no_damage(tiled_tiff, monkeypatch):
    def none_left(self, offset, size):
        raise MemoryError

    with open_slide(tiled_tiff) as slide:
        monkeypatch.setattr(TileFile, "read", none_left)
        with pytest.raises(MemoryError):
            slide.read_region(0, 0, 0, 64, 64)
        monkeypatch.undo()
        assert slide.read_region(0, 0, 0, 64, 64).shape == (64, 64, 3)


def test_openslide_recovers_after_a_bad_tile(tmp_path):
    pytest.importorskip("openslide")
    from napari_wsss.slides.readers.openslide import OpenSlideReader

    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offset, size = tif.pages[0].dataoffsets[6], tif.pages[0].databytecounts[6]
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    reader = OpenSlideReader(path)
    with pytest.raises(SlideError, match="level 0"):
        reader.read(0, 64, 128, 64, 64)
    np.testing.assert_array_equal(reader.read(0, 128, 0, 64, 64), image[128:192, :64])


def test_absent_tiles_are_white(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.zeros((64, 128, 3), np.uint8),
        photometric="rgb",
        tile=(64, 64),
        compression="zlib",
    )
    with tifffile.TiffFile(path, mode="r+") as tif:
        counts = tif.pages[0].tags["TileByteCounts"]
        counts.overwrite([counts.value[0], 0])
    region = open_slide(path).read_region(0, 0, 0, 64, 128)
    assert (region[:, :64] == 0).all()
    assert (region[:, 64:] == 255).all()


def test_missing_openslide_is_named(tmp_path, monkeypatch):
    path = tmp_path / "a.mrxs"
    Image.new("RGB", (8, 8)).save(path, format="JPEG")
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(MissingDependencyError, match=r"napari-wsss\[openslide\]"):
        open_slide(path)


def test_tiff_needs_no_openslide(tiled_tiff, monkeypatch):
    monkeypatch.setitem(sys.modules, "openslide", None)
    assert open_slide(tiled_tiff).shape == (300, 421)


# -- bombs --------------------------------------------------------------------------


def test_png_bomb(tmp_path):
    def part(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", b"") + part(b"IEND", b"")
    )
    assert "60000" in message(path) or "refused" in message(path)


def test_tiff_with_one_giant_strip(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16, 3), np.uint8), photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path, mode="r+") as tif:
        for name in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            tif.pages[0].tags[name].overwrite(30000)
    assert "too large to decode" in message(path)


def test_jpeg_tile_that_claims_more_than_its_tile(tmp_path):
    path = tmp_path / "a.tif"
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    tifffile.imwrite(path, image, photometric="rgb", tile=(64, 64), compression="jpeg")
    data = bytearray(path.read_bytes())
    frame = next(i for m in (b"\xff\xc0", b"\xff\xc1", b"\xff\xc2") if (i := data.find(m)) > 0)
    data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    path.write_bytes(data)
    with pytest.raises(SlideError, match="65500 x 65500"):
        open_slide(path).read_region(0, 0, 0, 64, 64)


# -- zarr ---------------------------------------------------------------------------


def _edit(path, change):
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps(metadata))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.update(shape=[10**9, 10**9]), "1000000000"),
        (lambda m: m["codecs"].append({"name": "magic", "configuration": {}}), "magic|codec"),
        (lambda m: m["chunk_grid"]["configuration"].update(chunk_shape=[10**6, 10**6]), "chunks"),
        (lambda m: m.update(shape=[-1, 40]), "cannot be"),
        (lambda m: m.update(data_type="float64"), "float64"),
        (lambda m: m.update(node_type="group"), "cannot be"),
    ],
    ids=["shape", "codec", "chunks", "negative", "dtype", "group"],
)
def test_zarr_metadata_that_lie(tmp_path, change, match):
    create_pyramid(tmp_path / "a.zarr", (40, 40))
    _edit(tmp_path / "a.zarr/0/zarr.json", change)
    with pytest.raises(SlideError, match=match):
        open_slide(tmp_path / "a.zarr")


@pytest.mark.parametrize("at", [1, 40, -5])
@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_cut_zarr_json(tmp_path, name, at):
    create_pyramid(tmp_path / "a.zarr", (40, 40))
    path = tmp_path / "a.zarr" / name
    path.write_text(path.read_text()[:at])
    message(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "ome",
    [
        {},
        {"multiscales": []},
        {"multiscales": [{}]},
        {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": []}]},
        {"multiscales": [{"axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": "9"}]}]},
        {"multiscales": [{"axes": [{"name": "a"}, {"name": "b"}], "datasets": [{"path": "0"}]}]},
        {"multiscales": [{"axes": [{"name": n} for n in "zyx"], "datasets": [{"path": "0"}]}]},
        {"multiscales": "many"},
    ],
    ids=str,
)
def test_unusable_ome_metadata(tmp_path, ome):
    create_pyramid(tmp_path / "a.zarr", (40, 40))
    _edit(tmp_path / "a.zarr/zarr.json", lambda m: m["attributes"].update(ome=ome))
    message(tmp_path / "a.zarr")


def test_corrupt_zarr_chunk(tmp_path):
    create_pyramid(tmp_path / "a.zarr", (80, 80), chunk=32).write(
        0, 0, np.ones((80, 80), np.uint8)
    )
    (tmp_path / "a.zarr/0/c/1/2").write_bytes(b"rubbish")
    slide = open_slide(tmp_path / "a.zarr")
    with pytest.raises(SlideError, match=r"a\.zarr.*level 0, y 32, x 64"):
        slide.read_region(0, 32, 64, 16, 16)
    assert (slide.read_region(0, 0, 0, 32, 32) == 1).all()


def test_plain_zarr_array_is_a_slide(tmp_path):
    zarr.save(str(tmp_path / "a.zarr"), np.full((20, 30, 3), 7, np.uint8))
    assert (open_slide(tmp_path / "a.zarr").levels[0].compute() == 7).all()


# -- random damage ------------------------------------------------------------------


@pytest.fixture(scope="module")
def victims(tmp_path_factory):
    folder = tmp_path_factory.mktemp("victims")
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), np.uint8)
    tifffile.imwrite(
        folder / "jpeg.tif", image, photometric="rgb", tile=(32, 32), compression="jpeg"
    )
    tifffile.imwrite(
        folder / "strip.ome.tif", image, photometric="rgb", compression="zlib", rowsperstrip=16
    )
    Image.fromarray(image).save(folder / "a.png")
    Image.fromarray(image).save(folder / "a.jpg")
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(
    name=st.sampled_from(["a.jpg", "a.png", "jpeg.tif", "strip.ome.tif"]),
    hits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=5
    ),
    near=st.sampled_from([1.0, 0.1, 0.01]),
    tail=st.booleans(),
)
def test_random_bytes_give_only_our_errors(victims, tmp_path, name, hits, near, tail):
    data = bytearray(victims[name])
    for where, value in hits:
        at = int(where * near * len(data))
        data[-1 - at if tail else at] = value
    path = tmp_path / name
    path.write_bytes(data)
    try:
        with open_slide(path) as slide:
            height, width = (min(n, 200) for n in slide.shape)
            slide.read_region(0, 0, 0, height, width)
    except WsssError:
        pass
