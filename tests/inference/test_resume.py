"""Runs that are cut off, repeated, shared and spoilt: the finished bytes are always the same."""

from __future__ import annotations

import hashlib
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import zarr

from napari_wsss.errors import CancelledError, OutputError, SlideError, WsssError
from napari_wsss.inference import (
    Engine,
    RunOptions,
    run_status,
    segment_job,
    segment_slide,
    verify_result,
)
from napari_wsss.inference.predict import image_logits
from napari_wsss.inference.result import NOT_COMPUTED, read_run, write_run
from napari_wsss.jobs import BlockDone, CancelToken, Log
from napari_wsss.models import Segmenter, device
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide
from napari_wsss.slides.slide import Slide

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")


@pytest.fixture(scope="module")
def image():
    coarse = np.random.default_rng(0).integers(0, 256, (72, 56, 3), np.uint8)
    return coarse.repeat(16, 0).repeat(16, 1)[:1150, :890]


@pytest.fixture
def slide(image):
    return open_slide(image, mpp=0.5, name="a")


@pytest.fixture(scope="module")
def finished(model, image, tmp_path_factory):
    """The files of an uninterrupted run, by name."""
    out = tmp_path_factory.mktemp("whole")
    result = segment_slide(open_slide(image, mpp=0.5, name="a"), model, out, SETTINGS)
    return files(result.path)


def files(path: Path) -> dict[str, bytes]:
    names = [p for p in path.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in names}


def _cancel_after(blocks: int, job, token: CancelToken) -> None:
    done = 0
    for event in job:
        done += isinstance(event, BlockDone)
        if done >= blocks:
            token.cancel()


def same(path: Path, expected: dict[str, bytes]) -> None:
    found = files(path)
    assert sorted(found) == sorted(expected)
    for name, content in expected.items():
        assert found[name] == content, name


def test_the_labels_are_those_of_the_whole_image(model, image, slide, tmp_path):
    result = segment_slide(slide, model, tmp_path, SETTINGS)
    engine = Engine(model, SETTINGS.changed(block_px=2048), device="cpu")
    expected = image_logits(engine, image, 64)
    differ = (result.labels[:] != expected.labels() + 1).mean()
    assert differ < 1e-4
    assert abs(result.uncertainty()[:] - np.round(expected.uncertainty() * 254)).max() <= 1


@pytest.mark.parametrize("after", [0, 1, 3, 5])
def test_a_cancelled_run_goes_on_to_the_same_bytes(model, slide, tmp_path, finished, after):
    token = CancelToken()
    job = segment_job(slide, model, tmp_path, SETTINGS, cancel=token)
    with pytest.raises(CancelledError, match="start it again"):
        _cancel_after(after, job, token)
    said = []
    segment_slide(slide, model, tmp_path, SETTINGS, on_event=said.append)
    assert sum(isinstance(e, BlockDone) for e in said) <= 6 - min(after, 6)
    same(tmp_path / "a.ome.zarr", finished)


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"readers": 4}, {"readers": 1}])
def test_how_it_is_computed_leaves_no_trace_in_the_labels(
    model, slide, tmp_path, finished, change
):
    segment_slide(slide, model, tmp_path, SETTINGS.changed(**change))
    found = files(tmp_path / "a.ome.zarr")
    for name, content in finished.items():
        if name.startswith("labels"):
            assert found[name] == content, name


def test_the_place_that_is_looked_at_comes_first(model, slide, tmp_path, finished):
    said = []
    looked_at = (1100.0, 800.0)
    segment_slide(
        slide, model, tmp_path, SETTINGS, view=lambda: looked_at, live=True, on_event=said.append
    )
    first = next(e for e in said if isinstance(e, BlockDone))
    assert (first.y, first.x) == (1024, 512)
    same(tmp_path / "a.ome.zarr", finished)


def test_a_chunk_is_shown_before_the_block_that_it_belongs_to(model, slide, tmp_path):
    large = SETTINGS.changed(block_px=1024)
    segment_slide(slide, model, tmp_path / "plain", large)
    said, shown = [], []

    def look(event):
        said.append(event)
        if isinstance(event, BlockDone) and not shown:
            result = zarr.open_group(
                tmp_path / "live" / "a.ome.zarr" / "labels/segmentation", mode="r"
            )
            y, x = event.y, event.x
            shown.append(result["0"][y : y + event.height, x : x + event.width])
            shown.append(result["1"][y // 2 : y // 2 + 8, x // 2 : x // 2 + 8])

    segment_slide(
        *(slide, model, tmp_path / "live", large),
        view=lambda: (1100.0, 800.0),
        live=True,
        on_event=look,
    )
    first, second = [e for e in said if isinstance(e, BlockDone)][:2]
    assert (first.y, first.x, first.height, first.width) == (1024, 512, 126, 378)
    assert (second.y, second.x) == (1024, 0), "the block itself comes next"
    assert all((part != NOT_COMPUTED).all() for part in shown)
    same(tmp_path / "live" / "a.ome.zarr", files(tmp_path / "plain" / "a.ome.zarr"))


def test_a_finished_result_is_left_alone(model, slide, tmp_path, finished):
    segment_slide(slide, model, tmp_path, SETTINGS)
    said = []
    segment_slide(slide, model, tmp_path, SETTINGS, on_event=said.append)
    assert [type(e) for e in said] == [Log]
    assert "finished already" in said[0].message
    same(tmp_path / "a.ome.zarr", finished)


def test_other_inputs_are_refused_by_name(model, image, slide, tmp_path):
    token = CancelToken()
    job = segment_job(slide, model, tmp_path, SETTINGS, cancel=token)
    with pytest.raises(CancelledError):
        _cancel_after(1, job, token)
    other = Segmenter(model.info).eval()
    changed = image.copy()
    changed[:600] = 255
    attempts = {
        "settings.gate": (slide, model, SETTINGS.changed(gate=False)),
        "model.sha256": (slide, other, SETTINGS),
        "slide.fingerprint": (open_slide(changed, mpp=0.5, name="a"), model, SETTINGS),
        "slide.mpp": (slide.with_mpp(0.52), model, SETTINGS),
    }
    for field, (a, b, c) in attempts.items():
        with pytest.raises(OutputError, match=rf"unfinished(.|\n)*{field}(.|\n)*--overwrite"):
            segment_slide(a, b, tmp_path, c)
    result = segment_slide(slide, other, tmp_path, SETTINGS, overwrite=True)
    assert verify_result(result.path) == []


def test_every_flipped_bit_is_found(model, image, tmp_path):
    small = open_slide(image[:300, :200], mpp=0.5, name="a")
    path = segment_slide(small, model, tmp_path, SETTINGS).path
    assert verify_result(path) == []
    for name, content in files(path).items():
        spoilt = bytearray(content)
        spoilt[len(spoilt) // 2] ^= 1
        (path / name).write_bytes(spoilt)
        try:
            problems = verify_result(path)
        except SlideError as error:  # run.json is no JSON any more
            problems = [f"run.json: {error}"]
        assert len(problems) == 1
        assert problems[0].startswith(name)
        (path / name).write_bytes(content)
    (path / "more").write_text("x")
    (path / "labels/segmentation/0/c/0/0").unlink()
    assert len(verify_result(path)) == 2


def test_two_processes_on_one_output(model, slide, tmp_path):
    job = segment_job(slide, model, tmp_path, SETTINGS)
    next(job)
    with pytest.raises(OutputError, match="Another process"):
        segment_slide(slide, model, tmp_path, SETTINGS)
    job.close()
    segment_slide(slide, model, tmp_path, SETTINGS)


def test_a_folder_of_somebody_else_is_not_touched(model, slide, tmp_path):
    path = tmp_path / "a.ome.zarr"
    path.mkdir()
    (path / "thesis.txt").write_text("words")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="no result of napari-wsss"):
            segment_slide(slide, model, tmp_path, SETTINGS, overwrite=overwrite)
    assert [p.name for p in path.iterdir()] == ["thesis.txt"]


def test_a_result_deleted_while_it_is_made(model, slide, tmp_path):
    def delete(event):
        if isinstance(event, BlockDone):
            shutil.rmtree(tmp_path / "a.ome.zarr", ignore_errors=True)

    with pytest.raises(OutputError, match=r"a\.ome\.zarr"):
        segment_slide(slide, model, tmp_path, SETTINGS, on_event=delete)


# -- precision --------------------------------------------------------------------------


@pytest.fixture
def computes_in(monkeypatch):
    """Make this processor one with or without bfloat16."""

    def choose(precision):
        monkeypatch.setattr(device, "_cpu_bf16", lambda: precision == "bf16")

    return choose


def begin(slide, model, out, settings):
    token = CancelToken()
    job = segment_job(slide, model, out, settings, RunOptions(device="cpu"), cancel=token)
    with pytest.raises(CancelledError):
        _cancel_after(2, job, token)


def test_a_run_goes_on_in_the_precision_it_began_in(model, slide, tmp_path, finished, computes_in):
    auto = SETTINGS.changed(precision="auto")
    computes_in("fp32")
    begin(slide, model, tmp_path, auto)
    computes_in("bf16")
    assert run_status(slide, model, tmp_path, auto, device="cpu").state == "begun"
    result = segment_slide(slide, model, tmp_path, auto, device="cpu")
    assert result.run["precision"] == "fp32"
    found = files(result.path)
    for name, content in finished.items():
        if name.startswith("labels"):
            assert found[name] == content, name


def test_a_run_in_bf16_does_not_go_on_where_that_is_emulated(model, slide, tmp_path, computes_in):
    auto = SETTINGS.changed(precision="auto")
    computes_in("bf16")
    begin(slide, model, tmp_path, auto)
    computes_in("fp32")
    assert run_status(slide, model, tmp_path, auto, device="cpu").state == "other"
    with pytest.raises(OutputError, match=r"precision: bf16 then, fp32 now \(a machine"):
        segment_slide(slide, model, tmp_path, auto, device="cpu")
    computes_in("bf16")
    segment_slide(slide, model, tmp_path, auto, device="cpu")
    computes_in("fp32")
    assert run_status(slide, model, tmp_path, auto, device="cpu").state == "finished"
    said = []
    result = segment_slide(slide, model, tmp_path, auto, device="cpu", on_event=said.append)
    assert "finished already" in said[0].message
    assert result.run["precision"] == "bf16"
    again = segment_slide(slide, model, tmp_path, auto, device="cpu", overwrite=True)
    assert again.run["precision"] == "fp32"


def test_a_run_goes_on_whose_record_is_of_an_earlier_version(model, slide, tmp_path):
    auto = SETTINGS.changed(precision="auto")
    begin(slide, model, tmp_path, auto)
    path = tmp_path / "a.ome.zarr"
    run = read_run(path)
    del run["precision"], run["settings"]["gate_windows"]
    write_run(path, run)
    other = auto.changed(gate_windows="any")
    assert run_status(slide, model, tmp_path, other, device="cpu").state == "other"
    assert segment_slide(slide, model, tmp_path, auto, device="cpu").path == path
    assert run_status(slide, model, tmp_path, auto, device="cpu").state == "finished"


def test_a_run_goes_on_whose_record_holds_a_fingerprint_of_an_earlier_version(
    model, image, tmp_path
):
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", tile=(256, 256))
    stored = open_slide(tmp_path / "a.tif", mpp=0.5)
    begin(stored, model, tmp_path, SETTINGS)
    path = tmp_path / "a.ome.zarr"
    data = (tmp_path / "a.tif").read_bytes()
    earlier = f"{len(data)}\0".encode() + data[: 1 << 20] + data[-(1 << 20) :]
    run = read_run(path)
    run["slide"]["fingerprint"] = hashlib.sha256(earlier).hexdigest()
    write_run(path, run)
    assert run_status(stored, model, tmp_path, SETTINGS, device="cpu").state == "begun"
    segment_slide(stored, model, tmp_path, SETTINGS, device="cpu")
    assert run_status(stored, model, tmp_path, SETTINGS, device="cpu").state == "finished"


# -- parts that cannot be read ----------------------------------------------------------


@pytest.fixture
def damaged(monkeypatch):
    """Make every read that touches the pixel (100, 700) fail."""
    read = Slide.read_region

    def broken(self, level, y, x, height, width):
        if y <= 100 < y + height and x <= 700 < x + width:
            raise SlideError(f"cannot be read at level {level}, y {y}, x {x}")
        return read(self, level, y, x, height, width)

    monkeypatch.setattr(Slide, "read_region", broken)


def test_an_unreadable_part_stops_the_run(model, slide, tmp_path, finished, damaged, monkeypatch):
    with pytest.raises(SlideError, match="level 0, y"):
        segment_slide(slide, model, tmp_path, SETTINGS)
    monkeypatch.undo()
    segment_slide(slide, model, tmp_path, SETTINGS)
    same(tmp_path / "a.ome.zarr", finished)


def test_an_unreadable_part_is_marked_never_background(model, slide, tmp_path, damaged):
    said = []
    result = segment_slide(
        slide, model, tmp_path, SETTINGS.changed(unreadable="mark"), on_event=said.append
    )
    labels = result.labels[:]
    marked = {(b["y"], b["x"]) for b in result.summary()["unreadable_blocks"]}
    assert (0, 512) in marked
    assert 0 < len(marked) < 6
    assert any(isinstance(e, Log) and e.level == "warning" for e in said)
    for y in range(0, 1150, 512):
        for x in range(0, 890, 512):
            block = labels[y : y + 512, x : x + 512]
            assert (block == 255).all() == ((y, x) in marked)
            assert not (block == 0).any()
    assert sum(row["pixels"] for row in result.summary()["classes"]) == (labels != 255).sum()


def test_a_reader_that_hangs_does_not_keep_a_cancelled_job(model, slide, tmp_path, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(Slide, "read_region", lambda *_: release.wait(20) or 1 / 0)
    token = CancelToken()
    timer = threading.Timer(0.5, token.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        segment_slide(slide, model, tmp_path, SETTINGS, cancel=token)
    assert time.monotonic() - began < 5
    hanging = [t for t in threading.enumerate() if t.name.startswith("read_")]
    assert hanging
    assert all(t.daemon for t in hanging), "Python waits for others at its end"
    release.set()


# -- lack of memory, and other failures of a device -------------------------------------


@pytest.mark.parametrize("limit_px", [700, 500])
def test_lack_of_memory_gives_the_same_labels(
    model, slide, tmp_path, finished, monkeypatch, limit_px
):
    run = Engine.run

    def small_only(self, images, rects, wanted=None):
        if len(images) > 1 or rects[0].height > limit_px:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(self, images, rects, wanted)

    monkeypatch.setattr(Engine, "run", small_only)
    segment_slide(slide, model, tmp_path, SETTINGS.changed(batch_size=4))
    found = files(tmp_path / "a.ome.zarr")
    for name, content in finished.items():
        if name.startswith("labels"):
            assert found[name] == content, name


def test_no_memory_at_all_is_told(model, slide, tmp_path, monkeypatch):
    def never(self, images, rects, wanted=None):
        raise MemoryError

    monkeypatch.setattr(Engine, "run", never)
    with pytest.raises(WsssError, match="memory"):
        segment_slide(slide, model, tmp_path, SETTINGS)


def test_lack_of_memory_while_reading_marks_no_block(model, slide, tmp_path, monkeypatch):
    class Full:
        """An array that cannot be copied for lack of memory."""

        shape, dtype, ndim = (1150, 890, 3), np.dtype(np.uint8), 3

        def __getitem__(self, index):
            raise MemoryError

    settings = SETTINGS.changed(unreadable="mark")
    monkeypatch.setattr(slide._reader, "arrays", (Full(),))
    with pytest.raises(MemoryError):
        segment_slide(slide, model, tmp_path, settings)
    monkeypatch.undo()
    result = segment_slide(slide, model, tmp_path, settings)
    assert result.summary()["unreadable_blocks"] == []


def test_other_failures_of_a_device_end_the_run(model, slide, tmp_path, finished, monkeypatch):
    def failing(self, images, rects, wanted=None):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "run", failing)
        with pytest.raises(WsssError, match="illegal memory access"):
            segment_slide(slide, model, tmp_path, SETTINGS)
    segment_slide(slide, model, tmp_path, SETTINGS)
    same(tmp_path / "a.ome.zarr", finished)


# -- kill -9 ----------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_killed_at_twenty_moments(model, slide, tmp_path, finished, kill_at):
    """In a child process, at a random one of its writes, renames and deletions each time."""
    rng = np.random.default_rng(0)

    def killed(out: Path, moment: int | None) -> int:
        counter = out.with_suffix(".count")
        return kill_at(lambda: segment_slide(slide, model, out, SETTINGS), counter, moment)

    total = killed(tmp_path / "count", None)
    assert total > 50
    # A few more or fewer the next time, as threads meet; the last ones are tests of the seal.
    for i, moment in enumerate(rng.choice(total - 10, 20, replace=False)):
        out = tmp_path / str(i)
        assert killed(out, int(moment)) == -signal.SIGKILL
        segment_slide(slide, model, out, SETTINGS)
        same(out / "a.ome.zarr", finished)
