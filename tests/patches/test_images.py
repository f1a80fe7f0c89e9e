from __future__ import annotations

import contextlib
import io
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from napari_wsss.errors import DataError
from napari_wsss.patches import images
from napari_wsss.patches.images import read_mask_values, read_rgb, read_size

PIXELS = np.random.default_rng(3).integers(0, 256, (9, 7, 3), np.uint8)


def _png16_rgb(path):
    """Write a 16-bit RGB PNG, which Pillow reads but cannot write."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(2 * 6) for _ in range(2))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_rgb_is_read_exactly(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(PIXELS).save(path)
    read = read_rgb(path)
    np.testing.assert_array_equal(read, PIXELS)
    assert read.flags.writeable
    assert read_size(path) == (9, 7)


def test_transparent_pixels_are_white(tmp_path):
    rgba = np.dstack([PIXELS, np.full((9, 7), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png")
    read = read_rgb(tmp_path / "a.png")
    assert read[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(read[1:], PIXELS[1:])


def test_transparent_palette_entry_is_white(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60] + [0] * 762)
    image.save(tmp_path / "a.png", transparency=0)
    assert read_rgb(tmp_path / "a.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_grey_becomes_rgb(tmp_path):
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png")[..., 2], PIXELS[..., 0])


def test_orientation_tag_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), PIXELS)


def test_sixteen_bit_is_refused_not_cut_down(tmp_path):
    Image.fromarray(np.full((4, 4), 700, np.uint16)).save(tmp_path / "grey.png")
    _png16_rgb(tmp_path / "rgb.png")
    for name in ("grey.png", "rgb.png"):
        with pytest.raises(DataError, match=f"{name}.*16-bit"):
            read_rgb(tmp_path / name)


def test_other_modes_are_named(tmp_path):
    Image.new("CMYK", (4, 4)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="'CMYK'"):
        read_rgb(tmp_path / "a.jpg")
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="'F'"):
        read_rgb(tmp_path / "a.tif")


def test_messages_tell_missing_folder_empty_text_and_cut_apart(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "page.png").write_text("<html>")
    (tmp_path / "folder.png").mkdir()
    Image.fromarray(np.tile(PIXELS, (20, 20, 1))).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    expected = {
        "none.png": "does not exist",
        "folder.png": "folder",
        "empty.png": "empty",
        "page.png": "not a PNG",
        "cut.png": "damaged or cut off",
    }
    for name, text in expected.items():
        with pytest.raises(DataError, match=f"{name}.*{text}"):
            read_rgb(tmp_path / name)


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (11_000, 10_000)).save(path)
    assert path.stat().st_size < 100_000
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(DataError, match="11000 x 10000 px"),
    ):
        read_rgb(path)


def test_a_stack_is_refused(tmp_path):
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 2 images"):
        read_rgb(tmp_path / "a.tif")


def test_masks_are_read_as_stored(tmp_path, write_mask):
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(read_mask_values(write_mask(tmp_path / "p.png", values)), values)
    Image.fromarray(values).save(tmp_path / "l.png")
    np.testing.assert_array_equal(read_mask_values(tmp_path / "l.png"), values)
    Image.fromarray(np.dstack([values] * 3)).save(tmp_path / "rgb.png")
    np.testing.assert_array_equal(read_mask_values(tmp_path / "rgb.png"), values)
    Image.fromarray(values > 128).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask_values(tmp_path / "bits.png"), values > 128)
    Image.fromarray(values.astype(np.uint16)).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_mask_values(tmp_path / "wide.png"), values)


def test_colour_and_wide_masks_are_refused(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match=re.escape("colour.png") + ".*colour picture"):
        read_mask_values(tmp_path / "colour.png")
    Image.fromarray(np.full((4, 4), 256, np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match="from 256 to 256"):
        read_mask_values(tmp_path / "wide.png")


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(PIXELS, (3, 3, 1))).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@given(data=st.data())
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_mutated_files_give_an_image_or_our_error(tmp_path, kind, data):
    raw = bytearray(_encoded(kind))
    for _ in range(data.draw(st.integers(1, 4))):
        # Headers, where damage is most dangerous, are hit as often as pixels.
        end = data.draw(st.sampled_from([64, len(raw)]))
        raw[data.draw(st.integers(0, min(end, len(raw)) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutated"
    path.write_bytes(
        raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    )
    for read in (read_rgb, read_mask_values, read_size):
        # Damage may go unnoticed (a changed pixel); an error has to be ours.
        with contextlib.suppress(DataError):
            assert read(path) is not None


def test_text_bombs_in_png_are_our_error(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", pnginfo=info)
    with pytest.raises(DataError, match=r"a\.png"):
        read_rgb(tmp_path / "a.png")


def test_limit_is_far_below_what_fills_memory():
    assert images.MAX_PIXELS * 3 < 2**29
