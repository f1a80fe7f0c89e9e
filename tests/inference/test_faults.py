"""Faults while a run writes: nothing that was stored is lost, and the next run ends it."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from napari_wsss.errors import CancelledError, OutputError, SlideError
from napari_wsss.inference import Engine, run_status, segment_job, segment_slide, verify_result
from napari_wsss.inference.journal import Entry, Journal
from napari_wsss.inference.tiles import Rect
from napari_wsss.jobs import BlockDone, CancelToken
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import open_slide
from napari_wsss.slides.pyramid import Pyramid
from napari_wsss.slides.slide import Slide

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
BLOCKS = 6


@pytest.fixture(scope="module")
def slide():
    coarse = np.random.default_rng(0).integers(0, 256, (72, 40, 3), np.uint8)
    return open_slide(coarse.repeat(16, 0).repeat(16, 1)[:1100, :600], mpp=0.5, name="a")


@pytest.fixture(scope="module")
def finished(model, slide, tmp_path_factory):
    """The files of an uninterrupted run, by name."""
    return files(segment_slide(slide, model, tmp_path_factory.mktemp("whole"), SETTINGS).path)


@pytest.fixture
def computed(monkeypatch):
    """The tiles that the network is asked for, one by one."""
    seen: list[Rect] = []
    run = Engine.run

    def counting(self, images, rects, wanted=None):
        seen.extend(wanted or rects)
        return run(self, images, rects, wanted)

    monkeypatch.setattr(Engine, "run", counting)
    return seen


def files(path: Path) -> dict[str, bytes]:
    names = [p for p in path.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in names}


def same(path: Path, expected: dict[str, bytes]) -> None:
    found = files(path)
    assert sorted(found) == sorted(expected)
    for name, content in expected.items():
        assert found[name] == content, name
    assert verify_result(path) == []


@contextmanager
def no_writing(where: Callable[[Path], bool], code: int, after: int = 0) -> Iterator[None]:
    """Let the operating system refuse to write files: at once, or after some bytes."""
    open_ = Path.open

    def opened(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if set(mode) & set("wxa+") and where(self):
            if not after:
                raise OSError(code, os.strerror(code), str(self))
            return _Filling(open_(self, mode, *args, **kwargs), code, after)
        return open_(self, mode, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", opened)
        yield


class _Filling:
    """A file on a disk that has room for a few more bytes."""

    def __init__(self, file: Any, code: int, room: int):
        self._file, self._code, self._room = file, code, room

    def __enter__(self) -> _Filling:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        if not self._room:
            raise OSError(self._code, os.strerror(self._code))
        whole = len(data)
        count = self._file.write(bytes(data)[: self._room])
        self._room -= count
        if count < whole and not isinstance(self._file, io.RawIOBase):
            raise OSError(self._code, os.strerror(self._code))  # only raw files say how much
        return count


def is_chunk(path: Path) -> bool:
    return "c" in path.parts and path.name.endswith(".partial") and "0" in path.parts


def is_journal(path: Path) -> bool:
    return path.name == "journal.jsonl"


def is_checksums(path: Path) -> bool:
    return path.name.startswith(".checksums.json")


def is_record(path: Path) -> bool:
    return path.name.startswith(".run.json")


# -- no room, no permission -------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
@pytest.mark.parametrize("after", [0, 40])
@pytest.mark.parametrize("where", [is_chunk, is_journal, is_checksums, is_record])
def test_no_room_and_no_permission(model, slide, tmp_path, finished, computed, code, after, where):
    path = tmp_path / "a.ome.zarr"
    said = {errno.ENOSPC: "disk of .* is full", errno.EACCES: "cannot be written.*folder"}[code]
    job = segment_job(slide, model, tmp_path, SETTINGS)
    while not isinstance(next(job), BlockDone):
        pass
    with no_writing(where, code, after), pytest.raises(OutputError, match=said):
        for _ in job:
            pass
    stored = run_status(slide, model, tmp_path, SETTINGS).done
    assert stored >= (1 if where in (is_chunk, is_journal) else BLOCKS)
    computed.clear()
    segment_slide(slide, model, tmp_path, SETTINGS)
    assert len(computed) == BLOCKS - stored
    same(path, finished)


# -- the seal ---------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
def test_killed_while_it_is_sealed(model, slide, tmp_path, finished, computed, kill_at):
    """At each of the changes of the disk from the checksums to the end."""

    def killed(out: Path, moment: int | None) -> int:
        counter = out.with_suffix(".count")
        work = partial(segment_slide, slide, model, out, SETTINGS)
        return kill_at(work, counter, moment, since="checksums")

    total = killed(tmp_path / "count", None)
    assert total >= 6, "checksums and record, each written and moved; journal and model removed"
    for i in range(total):
        out = tmp_path / str(i)
        assert killed(out, i) == -signal.SIGKILL
        assert run_status(slide, model, out, SETTINGS).done == BLOCKS
        computed.clear()
        segment_slide(slide, model, out, SETTINGS)
        assert not computed, f"computed again after {i} changes"
        same(out / "a.ome.zarr", finished)


@pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGKILL")
@pytest.mark.parametrize("moment", [4, 6, 9, 16, 22, 26])
def test_killed_while_another_result_is_cleared_away(
    model, slide, tmp_path, finished, kill_at, moment
):
    """It is whole, or passes no more for a result."""
    path = segment_slide(slide, model, tmp_path, SETTINGS.changed(gate=False)).path
    before = files(path)

    def replace() -> None:
        segment_slide(slide, model, tmp_path, SETTINGS, overwrite=True)

    assert kill_at(replace, tmp_path / "count", moment) == -signal.SIGKILL
    whole = run_status(slide, model, tmp_path, SETTINGS).state == "other"
    assert whole == (before.items() <= files(path).items())
    segment_slide(slide, model, tmp_path, SETTINGS, overwrite=whole)
    same(path, finished)


def test_what_a_finished_run_left_is_tidied_up(model, slide, tmp_path, finished):
    path = segment_slide(slide, model, tmp_path, SETTINGS).path
    for name in ("journal.jsonl", ".model.safetensors"):
        (path / name).write_bytes(b"left")
    assert verify_result(path) == []
    segment_slide(slide, model, tmp_path, SETTINGS)
    same(path, finished)


# -- killed workers ---------------------------------------------------------------------


def test_half_files_of_killed_workers_are_not_sealed_in(model, slide, tmp_path, finished):
    path = tmp_path / "a.ome.zarr"

    def leave(event):
        if isinstance(event, BlockDone):
            (path / "labels/segmentation/0/c/0/0.5eed.partial").write_bytes(b"half")

    segment_slide(slide, model, tmp_path, SETTINGS, on_event=leave)
    same(path, finished)


# -- a result that is deleted -----------------------------------------------------------


@pytest.mark.parametrize("delay", [1, 3, 6])
def test_a_deleted_result_can_be_started_again(model, slide, tmp_path, finished, delay):
    path = tmp_path / "a.ome.zarr"
    seen = []

    def delete(event):
        seen.append(event)
        if sum(isinstance(e, BlockDone) for e in seen) == delay:
            shutil.rmtree(path, ignore_errors=True)

    with pytest.raises(OutputError, match=r"a\.ome\.zarr was deleted or moved.*Start again"):
        segment_slide(slide, model, tmp_path, SETTINGS, on_event=delete)
    assert run_status(slide, model, tmp_path, SETTINGS).state == "new"
    segment_slide(slide, model, tmp_path, SETTINGS)
    same(path, finished)


def test_what_a_straggler_made_of_a_deleted_result_is_no_obstacle(
    model, slide, tmp_path, finished
):
    path = tmp_path / "a.ome.zarr"
    for name in ("0/c/0/1", "7/c/9/9", "labels/segmentation/0/c/0/0.5eed.partial"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(b"spoilt")
    (path / "labels/segmentation/1/c/4").mkdir(parents=True)
    assert run_status(slide, model, tmp_path, SETTINGS).state == "new"
    segment_slide(slide, model, tmp_path, SETTINGS)
    same(path, finished)


@pytest.mark.parametrize(
    "name", ["0/thesis.txt", "0/c/zarr.json", "labels/mine/0/c/0/0", "zarr.json"]
)
def test_more_than_that_is_somebody_elses(model, slide, tmp_path, name):
    path = tmp_path / "a.ome.zarr"
    for one in ("0/c/0/1", name):
        (path / one).parent.mkdir(parents=True, exist_ok=True)
        (path / one).write_bytes(b"words")
    before = files(path)
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="no result of napari-wsss"):
            segment_slide(slide, model, tmp_path, SETTINGS, overwrite=overwrite)
    assert files(path) == before


# -- the journal ------------------------------------------------------------------------


def entry(i: int) -> Entry:
    return Entry(Rect(512 * i, 0, 512, 512), [float(i)], f"{i:08x}")


def test_a_line_is_written_whole_or_not_at_all(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.create()
    journal.add(entry(0))
    before = journal.path.read_bytes()
    with no_writing(is_journal, errno.ENOSPC, after=30), pytest.raises(OutputError, match="full"):
        journal.add(entry(1))
    assert journal.path.read_bytes() == before
    journal.add(entry(2))
    assert list((journal.read() or {}).values()) == [entry(0), entry(2)]


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process")
def test_a_file_that_may_not_grow(tmp_path):
    """The operating system itself writes a part and says how much."""
    import resource

    journal = Journal(tmp_path / "journal.jsonl")
    journal.create()
    journal.add(entry(0))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.path.stat().st_size + 30, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"journal\.jsonl"):
            journal.add(entry(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    journal.add(entry(2))
    assert list((journal.read() or {}).values()) == [entry(0), entry(2)]


@pytest.mark.parametrize("torn", [b'{"rect": [0, 0', b"\0\0\0\0", b"\n", b"[]\n", b"\xff\xfe\n"])
def test_a_torn_line_costs_itself(tmp_path, torn):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.create()
    journal.add(entry(0))
    with journal.path.open("ab") as file:
        file.write(torn)
    journal.add(entry(1))
    journal.add(entry(2))
    assert list(journal.peek().values()) == [entry(i) for i in range(3)]
    with journal.path.open("ab") as file:
        file.write(torn)
    assert list((journal.read() or {}).values()) == [entry(i) for i in range(3)]
    journal.add(entry(3))
    assert len(journal.peek()) == 4


# -- stored, and not yet in the journal -------------------------------------------------


def on_disk(path: Path) -> set[tuple[int, int]]:
    labels = zarr.open_array(str(path / "labels/segmentation/0"), mode="r")
    height, width = labels.shape
    corners = [(y, x) for y in range(0, height, 512) for x in range(0, width, 512)]
    return {(y, x) for y, x in corners if labels[y, x] != 255}


@pytest.mark.parametrize("end", ["error", "cancel", "close"])
def test_whatever_is_stored_is_in_the_journal(
    model, slide, tmp_path, finished, computed, monkeypatch, end
):
    """Several blocks are waiting to be written when the run ends."""
    write, run, token = Pyramid.write_levels, Engine.run, CancelToken()

    def slowly(self, *args):
        time.sleep(0.2)
        write(self, *args)

    def failing(self, images, rects, wanted=None):
        if len(computed) == 4 and end == "error":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if len(computed) == 4 and end == "cancel":
            token.cancel()
        return run(self, images, rects, wanted)

    with monkeypatch.context() as patch:
        patch.setattr(Pyramid, "write_levels", slowly)
        patch.setattr(Engine, "run", failing)
        job = segment_job(slide, model, tmp_path, SETTINGS, cancel=token)
        if end == "close":
            while not isinstance(next(job), BlockDone):
                pass
            time.sleep(0.5)
            job.close()
        else:
            with pytest.raises((RuntimeError, CancelledError)):
                for _ in job:
                    pass
    stored = on_disk(tmp_path / "a.ome.zarr")
    entries = Journal(tmp_path / "a.ome.zarr" / "journal.jsonl").peek()
    assert {(rect.y, rect.x) for rect in entries} == stored
    assert stored
    computed.clear()
    segment_slide(slide, model, tmp_path, SETTINGS)
    assert len(computed) == BLOCKS - len(stored)
    same(tmp_path / "a.ome.zarr", finished)


# -- memory -----------------------------------------------------------------------------


@pytest.mark.parametrize("readers", [1, 2, 4, 8])
def test_lack_of_memory_cuts_no_smaller_than_needed(
    model, slide, tmp_path, finished, monkeypatch, readers
):
    """Blocks read before the first one failed are cut like it, not smaller each time."""
    run, fitted = Engine.run, []

    def small_only(self, images, rects, wanted=None):
        if max(wanted[0][2:]) > 256:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        fitted.extend(max(rect[2:]) for rect in wanted)
        return run(self, images, rects, wanted)

    monkeypatch.setattr(Engine, "run", small_only)
    segment_slide(slide, model, tmp_path, SETTINGS.changed(readers=readers))
    assert set(fitted) == {256, 88}, "88 px are left of 600"
    found = files(tmp_path / "a.ome.zarr")
    for name, content in finished.items():
        if name.startswith("labels"):
            assert found[name] == content, name


def test_lack_of_memory_that_comes_back(model, slide, tmp_path, monkeypatch):
    """Somebody else takes memory while it runs: it gets smaller once more."""
    run, limit = Engine.run, [256]
    fitted: list[int] = []

    def small_only(self, images, rects, wanted=None):
        if max(wanted[0][2:]) > limit[0]:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        fitted.extend(max(rect[2:]) for rect in wanted)
        limit[0] = 128 if len(fitted) > 6 else limit[0]
        return run(self, images, rects, wanted)

    monkeypatch.setattr(Engine, "run", small_only)
    segment_slide(slide, model, tmp_path, SETTINGS.changed(readers=4))
    assert set(fitted) == {256, 128, 88}


def test_an_unreadable_part_in_a_smaller_cut_is_marked(model, slide, tmp_path, monkeypatch):
    """The slide fails when a block is read a second time, for lack of memory."""
    run, read, failed = Engine.run, Slide.read_region, []

    def small_only(self, images, rects, wanted=None):
        if max(wanted[0][2:]) > 256:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return run(self, images, rects, wanted)

    def broken(self, *args):
        if failed:
            raise SlideError("cannot be read at level 0, y 0, x 0")
        return read(self, *args)

    monkeypatch.setattr(Engine, "run", small_only)
    monkeypatch.setattr(Slide, "read_region", broken)
    settings = SETTINGS.changed(unreadable="mark", readers=1)
    result = segment_slide(slide, model, tmp_path, settings)
    assert result.summary()["unreadable_blocks"]
