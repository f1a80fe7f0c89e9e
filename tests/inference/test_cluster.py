"""Blocks shared among processes: the bytes of one process, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

pytest.importorskip("distributed")

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError, ModelError, SlideError, WsssError
from napari_wsss.inference import (
    Cluster,
    RunOptions,
    block_task,
    cluster,
    map_slide,
    segment_job,
    segment_slide,
    verify_result,
)
from napari_wsss.inference.block_task import Place, place_of, run_block
from napari_wsss.inference.blocks import Block
from napari_wsss.inference.tiles import Rect
from napari_wsss.jobs import BlockDone, CancelToken, Log, run_job
from napari_wsss.models import Classifier, ModelInfo, Segmenter, load_model, save_model
from napari_wsss.settings import EncoderSettings, InferenceSettings
from napari_wsss.slides import open_slide

SETTINGS = InferenceSettings(block_px=512, tissue_only=False, precision="fp32")
ARCHITECTURE = {
    "segmenter": {"decoder_channels": 16, "encoder_stages": 3},
    "classifier": {"depths": [-2, -1], "deep_supervision": True},
}


def model_of(kind: str) -> Segmenter | Classifier:
    torch.manual_seed(0)
    info = ModelInfo(
        kind=kind,
        encoder=EncoderSettings(name="test_resnet", weights="random", upscale=1.0),
        architecture=ARCHITECTURE[kind],
        classes=ClassTable.from_names(["a", "b", "c"]).to_dict(),
        mpp=0.5,
        patch_size_px=64,
    )
    return {"segmenter": Segmenter, "classifier": Classifier}[kind](info).eval()


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """As the workers have: the number of threads can change the last digit of a sum."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model():
    return model_of("segmenter")


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A tiled TIFF of 1150 x 890 px, six blocks."""
    coarse = np.random.default_rng(0).integers(0, 256, (72, 56, 3), np.uint8)
    pixels = coarse.repeat(16, 0).repeat(16, 1)[:1150, :890]
    file = tmp_path_factory.mktemp("slides") / "a.tif"
    tifffile.imwrite(file, pixels, tile=(256, 256), photometric="rgb")
    return file


@pytest.fixture
def slide(path):
    with open_slide(path, mpp=0.5) as opened:
        yield opened


@pytest.fixture(scope="module")
def finished(model, path, tmp_path_factory):
    """The files of a run in this process."""
    out = tmp_path_factory.mktemp("alone")
    with open_slide(path, mpp=0.5) as slide:
        return files(segment_slide(slide, model, out, SETTINGS, device="cpu").path)


@pytest.fixture(scope="module")
def two():
    with Cluster.local(2, threads=1) as cluster:
        yield cluster


def files(path: Path) -> dict[str, bytes]:
    names = [p for p in path.rglob("*") if p.is_file() and p.name != ".lock"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in names}


def test_two_workers_give_the_bytes_of_one_process(model, slide, tmp_path, finished, two):
    said = []
    result = segment_slide(
        slide, model, tmp_path, SETTINGS, device="cpu", cluster=two, on_event=said.append
    )
    assert files(result.path) == finished
    assert verify_result(result.path) == []
    assert sum(isinstance(e, BlockDone) for e in said) == 6


def test_one_worker_gives_the_same(model, slide, tmp_path, finished):
    with Cluster.local(1, threads=1) as one:
        result = segment_slide(slide, model, tmp_path, SETTINGS, device="cpu", cluster=one)
    assert files(result.path) == finished


@pytest.mark.parametrize("depth", [None, 1])
def test_maps_too(slide, tmp_path, two, depth):
    classifier = model_of("classifier")
    options = {"device": "cpu", "depth": depth}
    alone = map_slide(slide, classifier, tmp_path / "alone", SETTINGS, **options)
    shared = map_slide(slide, classifier, tmp_path / "shared", SETTINGS, **options, cluster=two)
    assert files(alone.path) == files(shared.path)
    assert shared.depth == depth


def test_a_cancelled_run_goes_on_without_the_workers(model, slide, tmp_path, finished, two):
    token = CancelToken()
    options = RunOptions(device="cpu", cluster=two)
    job = segment_job(slide, model, tmp_path, SETTINGS, options, cancel=token)
    with pytest.raises(CancelledError, match="start it again"):
        run_job(job, lambda event: isinstance(event, BlockDone) and token.cancel())
    result = segment_slide(slide, model, tmp_path, SETTINGS, device="cpu")
    assert files(result.path) == finished


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_worker_is_replaced(model, slide, tmp_path, finished):
    with Cluster.local(2, threads=1) as cluster:
        victims = list(cluster.client.run(os.getpid).values())

        def kill(event):
            if isinstance(event, BlockDone) and victims:
                os.kill(victims.pop(), signal.SIGKILL)

        result = segment_slide(
            slide, model, tmp_path, SETTINGS, device="cpu", cluster=cluster, on_event=kill
        )
    assert not victims
    assert files(result.path) == finished


def test_an_unreadable_tile_keeps_its_place_in_the_message(model, path, tmp_path, finished, two):
    copied = tmp_path / "a.tif"
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].tags["TileByteCounts"].valueoffset
    # The 8th tile (second row, last column) claims to have no bytes left of its own.
    data[offset + 4 * 7 : offset + 4 * 8] = (10).to_bytes(4, "little")
    copied.write_bytes(data)
    with (
        open_slide(copied, mpp=0.5) as slide,
        pytest.raises(SlideError, match="level 0, y"),
    ):
        segment_slide(slide, model, tmp_path, SETTINGS, device="cpu", cluster=two)


def test_a_slide_in_memory_cannot_be_shared(model, tmp_path, two):
    slide = open_slide(np.zeros((600, 600, 3), np.uint8), mpp=0.5, name="array")
    with pytest.raises(SlideError, match="convert_slide"):
        segment_slide(slide, model, tmp_path, SETTINGS, cluster=two)


@pytest.fixture
def tasks(monkeypatch):
    """Let the worker's part run in this process; returns its tasks."""
    found = []

    def run(self, task, blocks, cancel):
        found.append(task)
        return (run_block(task, block) for block in blocks)

    def place(self, device, precision, cancel):
        yield Log("asked")
        return place_of(device, precision)

    monkeypatch.setattr(Cluster, "run", run)
    monkeypatch.setattr(Cluster, "place", place)
    monkeypatch.setattr(Cluster, "size", 1)
    monkeypatch.setattr(block_task, "_MODELS", {})
    return found


def test_another_file_or_model_on_a_worker_is_noticed(model, slide, tmp_path, tasks):
    """As on a machine that sees other disks."""
    segment_slide(slide, model, tmp_path, SETTINGS, cluster=Cluster(None))
    block = Block(Rect(0, 0, 512, 512), True)
    other = run_block(replace(tasks[0], slide_fingerprint="other"), block)
    assert isinstance(other, SlideError)
    save_model(model_of("classifier"), tasks[0].model)
    other = run_block(replace(tasks[0], model_sha256="other"), block)
    assert isinstance(other, ModelError)


def test_a_worker_reads_the_model_once_for_all_slides(
    model, slide, tmp_path, finished, tasks, monkeypatch
):
    read = []
    monkeypatch.setattr(
        block_task, "load_model", lambda path: read.append(path) or load_model(path)
    )
    for name in ("one", "two"):
        result = segment_slide(
            slide, model, tmp_path / name, SETTINGS, device="cpu", cluster=Cluster(None)
        )
        assert files(result.path) == finished
    assert len({task.model for task in tasks}) == 2
    assert len(read) == 1


class FakeClient:
    """A client whose scheduler says what the test wants."""

    def __init__(self, counts=(), places=()):
        self.counts, self.places = list(counts), places

    def nthreads(self):
        if not self.counts:
            raise OSError("Connection reset by peer")
        count = self.counts.pop(0)
        return {f"worker {i}": 1 for i in range(count)}

    def run(self, function, *arguments):
        if isinstance(self.places, Exception):
            raise self.places
        return dict(enumerate(self.places))

    def submit(self, function, task, block, **how):
        future = Future()
        future.set_result(block)
        return future

    def cancel(self, futures):
        raise OSError("Connection reset by peer")


def place(*places):
    found = Cluster(FakeClient([1], places)).place("auto", "auto", CancelToken())
    return run_job(found)


def test_a_run_computes_in_the_precision_that_all_workers_have():
    new, old = (Place("cpu", f"cpu (8 threads, {p})", p) for p in ("bf16", "fp32"))
    assert place(new, new) == Place("cpu", "cpu", "bf16")
    assert place(new, old) == Place("cpu", "cpu", "fp32")
    gpu = Place("cuda", "NVIDIA H200 (bf16)", "bf16")
    assert place(gpu, gpu) == Place("cuda", "NVIDIA H200 (bf16)", "bf16")
    assert place(gpu, new) == Place("auto", "NVIDIA H200 (bf16) + cpu", "bf16")


def test_this_process_needs_no_device_if_workers_have_it(
    model, slide, tmp_path, tasks, monkeypatch
):
    def place(self, device, precision, cancel):
        yield Log(f"the workers choose {device}")
        return Place(device, "NVIDIA H200 (bf16)", "bf16")

    monkeypatch.setattr(Cluster, "place", place)

    def run(self, task, blocks, cancel):
        tasks.append(task)
        return (run_block(replace(task, device="cpu"), block) for block in blocks)

    monkeypatch.setattr(Cluster, "run", run)
    result = segment_slide(
        *(slide, model, tmp_path, SETTINGS.changed(precision="auto")),
        device="xpu",  # which is nowhere
        cluster=Cluster(None),
    )
    assert tasks[0].device == "xpu"
    assert '"precision":"bf16"' in tasks[0].settings
    assert result.run["device"] == "NVIDIA H200 (bf16)"
    assert result.run["precision"] == "bf16"
    assert result.run["settings"]["precision"] == "auto"


def test_a_run_waits_for_workers_and_says_so():
    token = CancelToken()
    said = []
    job = Cluster(FakeClient([0, 0, 0, 1, 1])).run(None, [], token)
    assert [type(e) for e in job] == [Log]
    job = Cluster(FakeClient([0] * 100)).run(None, [], token)
    said.append(next(job))
    token.cancel()
    with pytest.raises(CancelledError):
        next(job)
    assert "No worker" in said[0].message


def test_a_worker_that_leaves_at_the_wrong_moment_leaves_no_block_out():
    client = FakeClient([1, 0, 1, 1, *[1] * 20])  # there, gone, there again
    done = Cluster(client).run(None, ["one", "two", "three"], CancelToken())
    assert sorted(done) == ["one", "three", "two"]


def test_all_blocks_are_given_out_before_the_last_worker_leaves():
    client = FakeClient([1, 1])
    assert list(Cluster(client).run(None, ["one"], CancelToken())) == ["one"]


def test_what_was_done_when_it_is_cancelled_is_kept(monkeypatch):
    client, token, running = FakeClient([1] * 9), CancelToken(), []

    def submit(function, task, block, **how):
        running.append((Future(), block))
        return running[-1][0]

    def meanwhile(distributed, futures):
        for future, block in running:
            future.set_result(block)
        token.cancel()

    monkeypatch.setattr(client, "submit", submit)
    monkeypatch.setattr(cluster, "_wait_for_any", meanwhile)
    job, kept = Cluster(client).run(None, ["one", "two", "three"], token), []
    with pytest.raises(CancelledError):
        kept.extend(job)
    assert sorted(kept) == ["one", "two"]


def test_a_worker_without_the_package_is_no_dead_scheduler():
    client = FakeClient([1, 1], ModuleNotFoundError("No module named 'napari_wsss'"))
    with pytest.raises(WsssError, match=r"worker cannot compute.*in the same version"):
        run_job(Cluster(client).place("auto", "auto", CancelToken()))


def test_a_scheduler_that_dies_is_told():
    cluster = Cluster(FakeClient())
    for job in (cluster.run(None, [], CancelToken()), cluster.place("cpu", "auto", CancelToken())):
        with pytest.raises(WsssError, match=r"scheduler no longer answers.*start it again"):
            list(job)


def test_no_scheduler_at_an_address():
    with pytest.raises(WsssError, match="No dask scheduler answers at nonsense"):
        Cluster.connect("nonsense")


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from napari_wsss import Cluster\nCluster.local(1, threads=1)\n")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert "__main__" in done.stderr.splitlines()[-1]
