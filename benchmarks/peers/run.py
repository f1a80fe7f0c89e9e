"""Our engine beside TIAToolbox and MONAI: the same torch module on the same slide.

Each side runs in an environment of its own, made from the requirements beside this file:

    python -m venv tia && tia/bin/pip install -r benchmarks/peers/requirements-tiatoolbox.txt
    python -m venv monai && monai/bin/pip install -r benchmarks/peers/requirements-monai.txt
    python benchmarks/peers/run.py --data FOLDER --out DIR \
        --python-tiatoolbox tia/bin/python --python-monai monai/bin/python

All sides get the default segmenter (U-Net on the packaged EfficientNet-Lite0, four classes, its
decoder random) and a JPEG-tiled TIFF of real tissue, read the file, and leave labels on disk.
Rounds are interleaved; a ratio is that within a round. A side works through the slide twice in
one process, as it would through many slides; the second pass counts, the first is stated
besides. A peer runs twice: with the module as
its users have it (eager, float32), and "tuned" as our engine tunes it (channels last, larger
allocator thresholds, bfloat16 where the processor has it), so that the rest of the ratio is
that of the pipelines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
SOURCES = [HERE, HERE.parent, HERE.parents[1] / "src"]
#: Batch size and workers of the peers: the best of a few on 2048² with two cores.
LIGHT = ["--input-px", "512", "--output-px", "512", "--stride-px", "448"]
CLEAN = ["--input-px", "1024", "--output-px", "512", "--stride-px", "512"]


@dataclass(frozen=True)
class Side:
    """One row of the table."""

    name: str
    settings: str
    python: str
    script: str
    options: tuple[str, ...]


def sides(args: argparse.Namespace) -> list[Side]:
    """Return the rows of the table, ours first."""
    found = [Side("napari-wsss", "default settings", sys.executable, "ours_run.py", ())]
    batch = ("--batch", str(args.batch))
    for tuned in (False, True):
        more = ("--tuned",) if tuned else ()
        note = ", tuned" if tuned else ""
        if args.python_tiatoolbox:
            workers = ("--workers", str(args.workers))
            for what, tiles in (
                ("512 in, 512 out, stride 448", LIGHT),
                ("1024 in, 512 out, stride 512", CLEAN),
            ):
                options = (*tiles, *batch, *workers, *more)
                python = args.python_tiatoolbox
                found.append(Side("TIAToolbox", what + note, python, "tiatoolbox_run.py", options))
        if args.python_monai:
            found.append(
                Side(
                    "MONAI",
                    "sliding window 512, overlap 0.25, Gaussian" + note,
                    args.python_monai,
                    "monai_run.py",
                    (*batch, *more),
                )
            )
        found.append(
            Side(
                "network alone",
                "tensors of 1024 px in memory" + note,
                sys.executable,
                "bare_run.py",
                more,
            )
        )
    return found


def run_side(side: Side, args: argparse.Namespace, slide: Path) -> dict:
    """Run one side in its own process and return what it measured."""
    out = args.out / "side"
    command = [
        *(side.python, str(HERE / side.script), "--model", str(args.out / "model.safetensors")),
        *("--slide", str(slide), "--warm-up", str(args.out / "warm-up.tif"), "--out", str(out)),
        *("--threads", str(args.threads), "--started", str(time.time()), *side.options),
    ]
    paths = os.pathsep.join(str(p.resolve()) for p in SOURCES)
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(args.threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side.name} ({side.settings}) failed:\n{done.stderr[-3000:]}")
    found = json.loads((out / "measured.json").read_text())
    if (out / "labels.npy").exists():
        whole = np.load(args.out / "whole.npy")
        found["equal"] = float((np.load(out / "labels.npy") == whole).mean())
    return found


def spread(values: list[float]) -> str:
    """Return "median (smallest to largest)"."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Prepare, run the rounds, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with the set glas")
    parser.add_argument("--out", type=Path, required=True, help="scratch folder")
    parser.add_argument("--python-tiatoolbox", help="interpreter of its environment")
    parser.add_argument("--python-monai", help="interpreter of its environment")
    parser.add_argument("--side-px", type=int, default=4096)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=4, help="patches per batch of the peers")
    parser.add_argument("--workers", type=int, default=0, help="loaders of TIAToolbox")
    args = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(p.resolve()) for p in SOURCES)}
    subprocess.run(
        [
            *(sys.executable, str(HERE / "prepare.py"), "--data", str(args.data)),
            *("--out", str(args.out), "--side-px", str(args.side_px)),
        ],
        env=environment,
        check=True,
    )
    slide = args.out / f"slide-{args.side_px}.tif"
    rows = sides(args)
    found: dict[Side, list[dict]] = {side: [] for side in rows}
    for _ in range(args.runs):
        for side in rows:
            found[side].append(run_side(side, args, slide))
    print(
        "| side | settings | useful MP/s | ours / theirs | first pass | ours / theirs | peak GB "
        "| equal to the whole image |\n|---|---|---|---|---|---|---|---|"
    )
    versions: dict[str, str] = {}
    for side, measured in found.items():
        cells = [side.name, side.settings]
        for which in ("mp_per_s", "first_mp_per_s"):
            speeds = [m[which] for m in measured]
            ours = [m[which] for m in found[rows[0]]]
            cells += [spread(speeds), spread([a / b for a, b in zip(ours, speeds, strict=True)])]
        cells.append(f"{max(m['peak_gb'] for m in measured):.1f}")
        cells.append(f"{100 * measured[-1]['equal']:.3f} %" if "equal" in measured[-1] else "")
        print("| " + " | ".join(cells) + " |")
        named = ", ".join(f"{k} {v}" for k, v in measured[-1]["versions"].items())
        versions[side.name] = named
    print(f"\n{args.side_px}² px, {args.threads} threads, {found[rows[0]][0]['device']}.")
    for name, text in versions.items():
        print(f"{name}: {text}.")


if __name__ == "__main__":
    main()
