"""The results file of the accuracy benchmark, and its table."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy_rows import ROWS, SETS
from filelock import FileLock
from numpy.typing import NDArray

from napari_wsss.evaluation import ConfusionMatrix, scores
from napari_wsss.evaluation.bootstrap import bootstrap_class_iou, bootstrap_interval, interval
from napari_wsss.files import write_atomic

__all__ = ["Results", "put_into", "render"]

_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"

GATE, ORACLE = "predicted_gate", "oracle_labels"


class Results:
    """Finished measurements by set/fold/seed/row, kept in one JSON file of numbers.

    Parameters
    ----------
    path
        Written after every measurement.
    entries
        What it held.
    """

    def __init__(self, path: Path, entries: dict[str, Any]):
        self.path, self.entries = path, entries

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read a results file; a missing one is empty."""
        return cls(path, json.loads(path.read_text()) if path.exists() else {})

    def get(self, place: str, mark: str) -> dict[str, Any] | None:
        """Return what was measured for the stages of this mark."""
        entry = self.entries.get(place)
        return entry if entry is not None and entry["mark"] == mark else None

    def put(self, place: str, entry: dict[str, Any]) -> None:
        """Keep a measurement, beside what other processes have written meanwhile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            self.entries = {**Results.read(self.path).entries, place: entry}
            lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(self.entries.items())]
            write_atomic(self.path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())

    def counts(self, places: Sequence[str], protocol: str = GATE) -> NDArray[np.int64]:
        """Return the counts (I, K, K + 1) of the images of all `places`."""
        rows = [row for place in places for row in self.entries[place]["counts"][protocol]]
        k = len(SETS[places[0].split("/")[0]].classes)
        return np.array(rows, np.int64).reshape(-1, k, k + 1)

    def miou(self, places: Sequence[str], protocol: str = GATE) -> float:
        """Return the mIoU of one confusion matrix over `places`."""
        return scores(ConfusionMatrix.from_counts(self.counts(places, protocol).sum(0))).miou

    def seeds(self, name: str, row: str, folds: Sequence[str]) -> dict[str, list[str]]:
        """Return the places of every seed of which all `folds` are measured."""
        found: dict[str, list[str]] = {}
        for place in self.entries:
            at, fold, seed, of = place.split("/")
            if (at, of) == (name, row) and fold in folds:
                found.setdefault(seed, []).append(place)
        return {seed: sorted(p) for seed, p in sorted(found.items()) if len(p) == len(folds)}


def put_into(path: Path, table: str) -> None:
    """Write the tables to a Markdown file, between its marks if it has them."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if _BEGIN in text and _END in text:
        before, after = text.split(_BEGIN)[0], text.split(_END)[1]
        table = f"{before}{_BEGIN}\n\n{table}\n{_END}{after}"
    path.write_text(table, encoding="utf-8")


def render(results: Results) -> str:
    """Return the tables in Markdown: all folds together, then what single folds say."""
    every = sorted({place.split("/")[1] for place in results.entries})
    parts = [fold for fold in every if fold != "all"]
    lines: list[str] = []
    for folds, title in (
        (parts, "Cross-validated: every image is tested once a seed"),
        (["all"] if "all" in every else [], "Trained on all images, tested on others"),
        *(([fold], f"Fold {fold} alone") for fold in parts),
    ):
        if folds:
            rows = [line for name in SETS for line in _rows(results, name, folds)]
            if rows:
                lines += [f"## {title}", "", *_HEAD, *rows, ""]
    lines += ["## Pseudo masks of the training patches", "", *_MASK_HEAD]
    for name in SETS:
        lines += _mask_rows(results, name)
    lines += [
        "",
        f"{_budgets()}, of 16 patches, in each phase; "
        f"Python {platform.python_version()}, torch {torch.__version__}.",
        "",
    ]
    return "\n".join(lines)


def _budgets() -> str:
    return "; ".join(
        f"{name}: {data.epochs} epochs of {data.steps_per_epoch} steps"
        for name, data in SETS.items()
    )


_HEAD = (
    "| set | row | mIoU, predicted gate: mean ± spread (seeds) | 95 % over images, first seed "
    "| less full supervision, 95 % | mIoU, oracle labels | FwIoU | accuracy | IoU per class "
    "| minutes |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
_MASK_HEAD = (
    "| set | row | runs | mIoU, shallow to deep | on multi-label patches "
    "| pixels that have a class (on multi-label patches) "
    "| where all depths agree, or the joint head is wholly certain (share of these pixels) |",
    "|---|---|---|---|---|---|---|",
)


def _rows(results: Results, name: str, folds: Sequence[str]) -> list[str]:
    lines = []
    for row, spec in ROWS.items():
        seeds = results.seeds(name, row, folds)
        if not seeds:
            continue
        miou = np.array([results.miou(places) for places in seeds.values()]) * 100
        oracle = np.mean([results.miou(places, ORACLE) for places in seeds.values()]) * 100
        low, high = bootstrap_interval(results.counts(next(iter(seeds.values()))))
        measured = [
            scores(ConfusionMatrix.from_counts(results.counts(places).sum(0)))
            for places in seeds.values()
        ]
        iou = np.array([[v or 0.0 for v in m.iou.values()] for m in measured]).mean(0) * 100
        classes = ", ".join(
            f"{c} {v:.1f}" for c, v in zip(SETS[name].classes.names, iou, strict=True)
        )
        spread = f" ± {miou.std(ddof=1):.1f}" if len(miou) > 1 else ""
        minutes = np.mean([_minutes(results.entries[p]) for s in seeds.values() for p in s])
        lines.append(
            f"| {name} | {spec.title} | **{miou.mean():.1f}**{spread} "
            f"({' / '.join(f'{m:.1f}' for m in miou)}) | {100 * low:.1f} to {100 * high:.1f} "
            f"| {_difference(results, seeds, results.seeds(name, 'full', folds))} "
            f"| {oracle:.1f} | {100 * np.mean([m.fwiou for m in measured]):.1f} "
            f"| {100 * np.mean([m.accuracy for m in measured]):.1f} | {classes} "
            f"| {minutes:.1f} |"
        )
    return lines


def _difference(
    results: Results, seeds: dict[str, list[str]], others: dict[str, list[str]]
) -> str:
    """Return the interval of the difference to other runs of the same seed and images.

    Equal seeds draw equal images, so that what is hard about an image counts for both.
    """
    both = [seed for seed in seeds if seed in others and seeds[seed] != others[seed]]
    if not both:
        return ""
    ours, theirs = (
        np.nanmean(bootstrap_class_iou(results.counts(of[both[0]])), axis=1)
        for of in (seeds, others)
    )
    low, high = interval(100 * (ours - theirs))
    return f"{low:+.1f} to {high:+.1f}"


def _mask_rows(results: Results, name: str) -> list[str]:
    """Return the quality of pseudo masks, once for all rows that share them."""
    lines: list[str] = []
    seen: set[str] = set()
    for row, spec in ROWS.items():
        found = [
            entry["quality"]
            for place, entry in results.entries.items()
            if (place.split("/")[0], place.split("/")[3]) == (name, row)
            and place.split("/")[1] != "all"
            and "quality" in entry
        ]
        if not found or json.dumps(found) in seen:
            continue
        seen.add(json.dumps(found))
        every, multi = (
            " / ".join(f"{100 * v:.1f}" for v in np.mean(_depths(found, key), axis=0))
            for key in ("miou", "miou_multi_label")
        )
        agreeing, share = (
            100 * np.mean([q["agreeing"][key] for q in found]) for key in ("miou", "share")
        )
        lines.append(
            f"| {name} | {spec.title} | {len(found)} | {every} | {multi} | {_kept(found)} "
            f"| {agreeing:.1f} ({share:.0f} %) |"
        )
    return lines


def _kept(found: Sequence[dict[str, Any]]) -> str:
    """Return how many of the labelled pixels the pseudo masks keep."""
    every = 100 * np.mean([quality["kept_share"] for quality in found])
    # Runs before it was measured do not say it of multi-label patches.
    multi = [q["kept_share_multi_label"] for q in found if "kept_share_multi_label" in q]
    return f"{every:.0f} %" + (f" ({100 * np.mean(multi):.0f} %)" if multi else "")


def _depths(found: Sequence[dict[str, Any]], key: str) -> list[list[float]]:
    return [[depth[key] for depth in quality["depths"]] for quality in found]


def _minutes(entry: dict[str, Any]) -> float:
    """Return the processor's minutes of all stages of an entry."""
    return sum(stage["processor"] for stage in entry["seconds"].values()) / 60
