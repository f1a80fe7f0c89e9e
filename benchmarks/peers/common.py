"""What the scripts of all sides share: options, the module, and the clock.

A side is a process of its own in its own environment. It loads the module, does its whole
work once on a small slide (so that imports on first use and start-up are not in the figures),
then twice on the slide, and writes what it measured as JSON beside its labels. The first pass
also pays for the memory that the process gets from the system, the second has it.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_wsss.allocator import keep_heap
from napari_wsss.models import Segmenter, load_model
from napari_wsss.models.device import autocast, describe_device

__all__ = ["Network", "load_segmenter", "measure", "options", "pixels_of"]


class Network(nn.Module):
    """The segmenter as a peer takes it: (N, 3, H, W) of 0 to 1 in, (N, K, H, W) logits out.

    `tuned` prepares it as our engine does: channels last in memory, bfloat16 where the
    processor computes in it. Without, it is the eager float32 module.
    """

    def __init__(self, model: Segmenter, tuned: bool):
        super().__init__()
        self.model = model
        self.tuned = tuned
        if tuned:
            keep_heap()  # large tensors stay on the heap
            self.model.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if not self.tuned:
            return self.model.dense(images).logits
        with autocast(torch.device("cpu"), "auto"):
            logits = self.model.dense(images.contiguous(memory_format=torch.channels_last)).logits
        return logits.float().contiguous()


def options() -> argparse.ArgumentParser:
    """Return a parser of the options that every side has."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--warm-up", type=Path, required=True, help="a small slide")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--tuned", action="store_true", help="prepare the module as we do")
    parser.add_argument("--started", type=float, required=True, help="when the process began")
    return parser


def load_segmenter(args: argparse.Namespace) -> Segmenter:
    """Return the module of the comparison, the same file for every side."""
    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    assert isinstance(model, Segmenter)
    return model


def pixels_of(slide: Path) -> int:
    """Return the number of pixels of a slide."""
    import tifffile

    with tifffile.TiffFile(slide) as tif:
        height, width = tif.series[0].shape[:2]
    return height * width


def measure(
    args: argparse.Namespace,
    segment: Callable[[Path, Path], object],
    labels: Callable[[Path], NDArray] | None,
    packages: Sequence[str],
) -> None:
    """Time ``segment(slide, out)`` and write ``measured.json`` and ``labels.npy``.

    Parameters
    ----------
    args
        As `options` parses them.
    segment
        The whole work: opens the slide, computes, writes the result under a new folder.
    labels
        Reads the class of every pixel, 0 to K - 1, from that folder; not timed.
    packages
        Distributions whose versions are stated.
    """
    startup_s = time.time() - args.started
    shutil.rmtree(args.out, ignore_errors=True)
    for name in ("warm-up", "first", "result"):
        (args.out / name).mkdir(parents=True)
    segment(args.warm_up, args.out / "warm-up")
    seconds = []
    for name in ("first", "result"):
        began = time.perf_counter()
        segment(args.slide, args.out / name)
        seconds.append(time.perf_counter() - began)
    if labels is not None:
        found = np.asarray(labels(args.out / "result")).astype(np.uint8)
        np.save(args.out / "labels.npy", found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, second = (pixels_of(args.slide) / 1e6 / s for s in seconds)
    measured = {
        "mp_per_s": second,
        "first_mp_per_s": first,
        "seconds": seconds,
        "startup_s": startup_s,
        # KiB on Linux, bytes on macOS.
        "peak_gb": peak / (1e9 if sys.platform == "darwin" else 1e6 / 1.024),
        "device": describe_device(torch.device("cpu"), "auto" if args.tuned else "fp32"),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *packages)},
    }
    (args.out / "measured.json").write_text(json.dumps(measured, indent=1))
