"""Conversion to OME-Zarr: the same pixels, readable by others, all or nothing."""

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image

from napari_wsss.errors import CancelledError, OutputError, SlideError
from napari_wsss.jobs import CancelToken, Progress
from napari_wsss.slides import convert_slide, open_slide
from napari_wsss.slides.downsample import halve


def test_pixels_resolution_and_metadata_survive(tiled_tiff, tmp_path, picture):
    events = []
    out = convert_slide(tiled_tiff, tmp_path / "a.ome.zarr", chunk=64, on_event=events.append)
    image = picture(300, 421)
    slide = open_slide(out)
    assert slide.name == "a"
    assert slide.mpp == pytest.approx(0.5)
    np.testing.assert_array_equal(slide.read_region(0, 0, 0, 300, 421), image)
    reduced = halve(np.moveaxis(image, -1, 0), "mean")
    np.testing.assert_array_equal(slide.levels[1].compute(), np.moveaxis(reduced, 0, -1))
    model = Image.from_zarr(zarr.open_group(str(out), mode="r"))
    assert [a.name for a in model.ome_attributes.multiscales[0].axes] == ["c", "y", "x"]
    assert [c["color"] for c in model.ome_attributes.omero["channels"]] == [
        "ff0000",
        "00ff00",
        "0000ff",
    ]
    for stage in ("convert", "pyramid"):
        steps = [e for e in events if isinstance(e, Progress) and e.stage == stage]
        assert [e.done for e in steps] == list(range(1, steps[-1].total + 1))
    assert not (tmp_path / "a.ome.zarr.partial").exists()


def test_ome_zarr_reads_it(tiled_tiff, tmp_path, picture):
    reader = pytest.importorskip("ome_zarr.reader")
    io = pytest.importorskip("ome_zarr.io")
    out = convert_slide(tiled_tiff, tmp_path / "a.ome.zarr", chunk=128)
    node = next(iter(reader.Reader(io.parse_url(str(out)))()))
    assert [level.shape for level in node.data] == [(3, 300, 421), (3, 150, 211), (3, 75, 106)]
    np.testing.assert_array_equal(np.moveaxis(np.asarray(node.data[0]), 0, -1), picture(300, 421))


def test_version_04_is_read(tmp_path, picture):
    image = picture(100, 90)
    group = zarr.create_group(str(tmp_path / "old.zarr"), zarr_format=2)
    for i in range(2):
        data = np.moveaxis(image[:: 2**i, :: 2**i], -1, 0)[None, :, None]
        group.create_array(str(i), data=np.ascontiguousarray(data), chunks=(1, 1, 1, 32, 32))
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": [
                {"name": "t", "type": "time"},
                {"name": "c", "type": "channel"},
                *({"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"),
            ],
            "datasets": [
                {
                    "path": str(i),
                    "coordinateTransformations": [
                        {"type": "scale", "scale": [1, 1, 1, 250 * 2**i, 250 * 2**i]}
                    ],
                }
                for i in range(2)
            ],
        }
    ]
    for source in (tmp_path / "old.zarr", group):
        slide = open_slide(source)
        assert slide.mpp == pytest.approx(0.25)
        np.testing.assert_array_equal(slide.read_region(0, 10, 20, 50, 60), image[10:60, 20:80])
        np.testing.assert_array_equal(slide.levels[1].compute(), image[::2, ::2])


def test_missing_chunk_is_the_fill_value(tiled_tiff, tmp_path):
    out = convert_slide(tiled_tiff, tmp_path / "a.ome.zarr", chunk=64)
    (out / "0/c/0/1/1").unlink()
    assert (open_slide(out).read_region(0, 64, 64, 64, 64) == 255).all()


def test_existing_output(tiled_tiff, tmp_path):
    out = convert_slide(tiled_tiff, tmp_path / "a.ome.zarr")
    with pytest.raises(OutputError, match="--overwrite"):
        convert_slide(tiled_tiff, out)
    convert_slide(np.zeros((9, 9, 3), np.uint8), out, overwrite=True)
    assert open_slide(out).shape == (9, 9)
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "a.txt").write_text("x")
    with pytest.raises(OutputError, match="not a result"):
        convert_slide(tiled_tiff, folder, overwrite=True)


def test_failure_and_cancel_leave_the_old_result(tiled_tiff, tmp_path):
    out = convert_slide(np.full((9, 9, 3), 5, np.uint8), tmp_path / "a.ome.zarr")
    cancel = CancelToken()
    with pytest.raises(CancelledError):
        convert_slide(
            tiled_tiff,
            out,
            overwrite=True,
            chunk=16,
            cancel=cancel,
            on_event=lambda _: cancel.cancel(),
        )
    data = bytearray(tiled_tiff.read_bytes())
    data[600:900] = bytes(300)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(data)
    with pytest.raises(SlideError, match="level 0"):
        convert_slide(broken, out, overwrite=True)
    assert (open_slide(out).levels[0].compute() == 5).all()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ome.zarr", "broken.tif", "tiled.tif"]


def test_real_slide(real, tmp_path):
    source = real("cmu-1-small-region.svs")
    out = convert_slide(source, tmp_path / "cmu.ome.zarr")
    slide = open_slide(out)
    assert slide.mpp == pytest.approx(0.499)
    assert [level.shape[:2] for level in slide.levels][-1] == (371, 278)
    np.testing.assert_array_equal(
        slide.levels[0].compute(), open_slide(source).levels[0].compute()
    )
