"""The block engine against the bare network, its memory, its workers, and its delays.

Each command prints one table:

    python benchmarks/engine.py throughput --data FOLDER --out DIR
    python benchmarks/engine.py memory ...     python benchmarks/engine.py workers ...
    python benchmarks/engine.py delays ...     python benchmarks/engine.py area ...
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import resource
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tissue import MPP, write_slide

from napari_wsss.classes import ClassTable
from napari_wsss.errors import CancelledError
from napari_wsss.inference import Cluster, Engine, RunOptions, segment_job, segment_slide
from napari_wsss.inference.blocks import SlidePlan
from napari_wsss.inference.gate import GateGrid
from napari_wsss.jobs import BlockDone, CancelToken
from napari_wsss.models import ModelInfo, Segmenter, load_model, model_file
from napari_wsss.models.device import autocast, describe_device
from napari_wsss.settings import InferenceSettings, SegmenterSettings
from napari_wsss.slides import open_slide


def default_model() -> Segmenter:
    """Return the default segmenter for four classes, its decoder random."""
    settings = SegmenterSettings()
    torch.manual_seed(0)
    info = ModelInfo(
        kind="segmenter",
        encoder=settings.encoder.resolved(224),
        architecture=settings.architecture,
        classes=ClassTable.from_names(["a", "b", "c", "d"]).to_dict(),
        mpp=MPP,
        patch_size_px=224,
    )
    return Segmenter(info).eval()


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return "median (smallest to largest)"."""
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table with what it was made by."""
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    device = describe_device(torch.device("cpu"))
    print(f"\n{device}; Python {platform.python_version()}, torch {torch.__version__}", flush=True)


# -- throughput -------------------------------------------------------------------------


def throughput(args: argparse.Namespace) -> None:
    """Compare the engine with the network on tensors of its tile shape."""
    rows = []
    for name in args.models:
        model = default_model() if name == "random" else load_model(model_file(name))
        rows.append([name, *_throughput(args, model)])
    table(
        [
            *("model", "slide", "block", "tile", "overhead", "bare network MP/s", "useful MP/s"),
            "share of the bare network",
        ],
        rows,
    )


def _throughput(args: argparse.Namespace, model: Segmenter) -> list[str]:
    """Return the cells of a row."""
    path = args.out / f"{args.side}-{model.mpp:g}.tif"
    slide = open_slide(write_slide(path, args.data, args.side, mpp=model.mpp or MPP))
    settings = InferenceSettings(block_px=args.block or "auto")
    plan = SlidePlan.of(slide, model, settings, None)
    engine = Engine(model, settings)
    margin = GateGrid.of(model.info.patch_size_px, plan.shape).margin_px(plan.side)
    tiles = [engine.tiles.reads(plan.shape, b.rect, margin, plan.side) for b in plan.blocks()]
    tile = max(tiles, key=lambda t: t.height * t.width)  # those at the border are smaller
    useful = plan.shape[0] * plan.shape[1] / 1e6
    overhead = sum(t.height * t.width for t in tiles) / 1e6 / useful
    bare, whole = [], []
    for _ in range(args.runs):
        bare.append(_bare_speed(engine, tile.height, tile.width))
        shutil.rmtree(args.out / "result", ignore_errors=True)
        began = time.perf_counter()
        segment_slide(slide, model, args.out / "result", settings)
        whole.append(useful / (time.perf_counter() - began))
        bare.append(_bare_speed(engine, tile.height, tile.width))
    pairs = [2 * w * overhead / (bare[2 * i] + bare[2 * i + 1]) for i, w in enumerate(whole)]
    return [
        f"{args.side}²",
        f"{plan.side}²",
        f"{tile.height} x {tile.width}",
        f"{overhead:.2f}",
        spread(bare),
        spread(whole),
        spread([100 * p for p in pairs], 1) + " %",
    ]


def _bare_speed(engine: Engine, height: int, width: int, seconds: float = 8.0) -> float:
    """Return MP/s of the network alone on a tensor that is there already."""
    x = _pixels(engine, height, width)
    with torch.inference_mode(), autocast(engine.device, engine.settings.precision):
        engine.model.dense(x)
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            engine.model.dense(x)
            count += 1
    return count * height * width / 1e6 / (time.perf_counter() - began)


def _pixels(engine: Engine, height: int, width: int) -> torch.Tensor:
    """Return an image (1, 3, height, width) as the engine's network takes it."""
    pixels = torch.randint(0, 256, (1, height, width, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    return pixels / 255 if engine.model.encoder.normalises else pixels


# -- memory -----------------------------------------------------------------------------


def memory(args: argparse.Namespace) -> None:
    """Compare the peak memory of the network on one tile, and of slides of two sizes."""
    rows = []
    sides = (8192, 65536)
    for side in sides:  # 6144 px of tissue: the block in its middle has neighbours all round
        share = 6144 / side
        write_slide(args.out / f"memory-{side}.tif", args.data, side, share, share)
    baseline = _in_process(_peak_of_network, ())
    rows.append(["network on one tile", "", f"{baseline:.2f}", ""])
    for side in sides:
        path = args.out / f"memory-{side}.tif"
        peak = _in_process(_peak_of_slide, (path, args.out / "memory-result"))
        rows.append(["slide", f"{side}²", f"{peak:.2f}", f"{peak - baseline:+.2f}"])
    table(["what", "size", "peak resident memory, GiB", "above the network"], rows)


def _peak_of_network() -> float:
    slide_px = 8192
    model, settings = default_model(), InferenceSettings()
    engine = Engine(model, settings)
    side = settings.block_side(model.upscale)
    margin = GateGrid.of(224, (slide_px, slide_px)).margin_px(side)
    reach = engine.tiles.reach(margin)  # type: ignore[union-attr]
    x = _pixels(engine, side + 2 * reach, side + 2 * reach)
    with torch.inference_mode(), autocast(engine.device, settings.precision):
        for _ in range(2):
            engine.model.dense(x)
    return _peak()


def _peak_of_slide(path: Path, out: Path) -> float:
    shutil.rmtree(out, ignore_errors=True)
    segment_slide(open_slide(path), default_model(), out)
    return _peak()


def _peak() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def _in_process(work: Callable[..., float], arguments: tuple) -> float:
    """Run `work` in a process of its own, since a peak never goes down."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


# -- workers ----------------------------------------------------------------------------


def workers(args: argparse.Namespace) -> None:
    """Compare one and two workers of one thread, free and on a core of their own."""
    path = write_slide(args.out / f"{args.side}.tif", args.data, args.side)
    warm = write_slide(args.out / "warm-4096.tif", args.data, 4096)
    rows = []
    for pinned in (False, True) if hasattr(os, "sched_setaffinity") else (False,):
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(args.runs):
            for count, times in seconds.items():
                times.append(_seconds_of_workers(args, path, warm, count, pinned))
        rows.append(
            [
                "a core each" if pinned else "free",
                spread(seconds[1], 1),
                spread(seconds[2], 1),
                spread([a / b for a, b in zip(seconds[1], seconds[2], strict=True)]),
            ]
        )
    table(["workers of one thread", "one, seconds", "two, seconds", "ratio"], rows)


def _seconds_of_workers(
    args: argparse.Namespace, path: Path, warm: Path, count: int, pinned: bool
) -> float:
    """Return how long workers take; `pinned`: they and this process have one core for each."""
    settings = InferenceSettings(block_px=args.block or "auto")
    model, out = default_model(), args.out / "workers-result"
    shutil.rmtree(out, ignore_errors=True)
    cores = sorted(os.sched_getaffinity(0)) if pinned else []
    with Cluster.local(count, threads=1) as cluster:
        if pinned:
            bind(cores[:count])
            addresses = sorted(cluster.client.scheduler_info(n_workers=-1)["workers"])
            for address, core in zip(addresses, cores, strict=False):
                cluster.client.run(bind, [core], workers=[address])
        try:
            # Loading torch and model is paid once per worker, not once per slide. Blocks for
            # all workers, or only one would have loaded them.
            segment_slide(
                open_slide(warm),
                *(model, args.out / "warm-result", settings),
                overwrite=True,
                cluster=cluster,
            )
            began = time.perf_counter()
            segment_slide(open_slide(path), model, out, settings, cluster=cluster)
            return time.perf_counter() - began
        finally:
            if pinned:
                bind(cores)


def bind(cores: Sequence[int]) -> None:
    """Let all threads of this process, and those that they start, run on `cores` only."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


# -- delays -----------------------------------------------------------------------------


def delays(args: argparse.Namespace) -> None:
    """Measure how long the first block takes, and how long it takes to stop."""
    slide = open_slide(write_slide(args.out / "16384.tif", args.data, 16384))
    model = default_model()
    first, stop = [], []
    for i in range(args.runs):
        shutil.rmtree(args.out / "delays-result", ignore_errors=True)
        token = CancelToken()
        place, options = args.out / "delays-result", RunOptions(live=True)
        job = segment_job(slide, model, place, options=options, cancel=token)
        began = time.perf_counter()
        for event in job:
            if isinstance(event, BlockDone):
                break
        first.append(time.perf_counter() - began)
        # At another moment of a block each time.
        asked: list[float] = []

        def ask(token: CancelToken = token, asked: list[float] = asked) -> None:
            asked.append(time.perf_counter())
            token.cancel()

        timer = threading.Timer(0.3 + 0.37 * i, ask)
        timer.start()
        try:
            for _ in job:
                pass
        except CancelledError:
            stop.append(time.perf_counter() - asked[0])
    table(
        ["delay", "seconds"],
        [
            ["start to first block stored, network loaded", spread(first)],
            ["cancel to the end of the job", spread(stop)],
        ],
    )


# -- area -------------------------------------------------------------------------------


def area(args: argparse.Namespace) -> None:
    """Measure the time against the area of tissue on slides of one size."""
    rows = []
    model = default_model()
    for share in (0.125, 0.25, 0.5, 1.0):
        path = write_slide(args.out / f"area-{share}.tif", args.data, args.side, share)
        shutil.rmtree(args.out / "area-result", ignore_errors=True)
        began = time.perf_counter()
        result = segment_slide(open_slide(path), model, args.out / "area-result")
        seconds = time.perf_counter() - began
        tissue = sum(r["area_mm2"] for r in result.summary()["classes"][1:])
        rows.append(
            [f"{100 * share:.0f} %", f"{tissue:.2f}", f"{seconds:.1f}", f"{seconds / tissue:.2f}"]
        )
    table(["tissue", "mm²", "seconds", "seconds per mm²"], rows)


def main() -> None:
    """Run one of the commands."""
    commands = {f.__name__: f for f in (throughput, memory, workers, delays, area)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--data", type=Path, required=True, help="folder with the set glas")
    parser.add_argument("--out", type=Path, default=Path("benchmark-output"))
    parser.add_argument("--side", type=int, default=16384, help="side of the slide, px")
    parser.add_argument("--block", type=int, help="block_px; the default setting if left out")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--models",
        nargs="+",
        default=["lung-adenocarcinoma", "random"],
        help="throughput: names in the registry, or random: the default segmenter for four "
        "classes with a random decoder, whose labels change from pixel to pixel",
    )
    args = parser.parse_args()
    commands[args.command](args)


if __name__ == "__main__":
    main()
