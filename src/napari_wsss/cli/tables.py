"""Results as tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

__all__ = [
    "area_table",
    "evaluation_tables",
    "metrics_table",
    "pairs_table",
    "quality_table",
    "rows_table",
    "uncertainty_table",
]

_PROTOCOLS = {"predicted_gate": "predicted gate", "oracle_labels": "oracle labels"}
_UNKNOWN = "–"


def evaluation_tables(evaluation: Mapping[str, Any]) -> tuple[Table, Table]:
    """Return overall metrics and IoU per class, both protocols side by side.

    Parameters
    ----------
    evaluation
        `Evaluation.to_dict`; intervals are of 95 %.
    """
    results = [evaluation["protocols"][name] for name in _PROTOCOLS]
    overall = _table("Metric", *_PROTOCOLS.values())
    overall.add_row(
        "mIoU", *(with_interval(r["miou"], r["interval95"]) for r in results), style="bold"
    )
    for name, label in (("fwiou", "FwIoU"), ("accuracy", "accuracy"), ("mean_dice", "mean Dice")):
        overall.add_row(label, *(fraction(r[name]) for r in results))
    per_class = _table("IoU per class", *_PROTOCOLS.values(), "pixels")
    for name, pixels in results[0]["support_px"].items():
        cells = [with_interval(r["iou"][name], r["iou_interval95"][name]) for r in results]
        per_class.add_row(Text(name), *cells, f"{pixels:,}")
    return overall, per_class


def uncertainty_table(found: Mapping[str, Any]) -> Table:
    """Return how far the uncertainty can be trusted.

    Parameters
    ----------
    found
        `Reliability.to_dict`.
    """
    table = _table("Uncertainty, predicted gate", "value", "by chance", "at best")
    tenth = fraction(found["errors_in_most_uncertain_tenth"])
    table.add_row("errors in the most uncertain tenth of the pixels", tenth, "10.0%", "")
    aurc = with_interval(found["aurc"], found["aurc_interval95"])
    bounds = fraction(found["aurc_chance"]), fraction(found["aurc_best"])
    table.add_row("risk against coverage (AURC)", aurc, *bounds)
    ece = with_interval(found["ece"], found["ece_interval95"])
    table.add_row("expected calibration error", ece, "", "0.0%")
    return table


def metrics_table(metrics: Mapping[str, float]) -> Table:
    """Return the validation metrics of a model."""
    table = _table("Metric of the kept epoch", "value")
    for name, value in metrics.items():
        table.add_row(Text(name), f"{value:.4f}")
    return table


def quality_table(quality: Mapping[str, Any]) -> Table:
    """Return what `pseudo_mask_quality` measured."""
    table = _table("Pseudo masks against true masks", "mIoU", "mIoU, multi-label patches")
    for row in quality["depths"]:
        table.add_row(
            f"depth {row['depth']}", fraction(row["miou"]), fraction(row["miou_multi_label"])
        )
    kept = fraction(quality["kept_share"]), fraction(quality["kept_share_multi_label"])
    table.add_row("share of the pixels that have a class", *kept)
    agreeing = quality["agreeing"]
    share = fraction(agreeing["share"])
    where = "all depths agree" if len(quality["depths"]) > 1 else "wholly certain"
    table.add_row(f"where {where} ({share} of the pixels)", fraction(agreeing["miou"]), "")
    return table


def area_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return class, pixels, mm² and share of the tissue, one row per class."""
    table = _table("Class", "pixels", "mm²", "share of tissue")
    for row in rows:
        area = row.get("area_mm2")
        share = row.get("share_of_tissue")
        table.add_row(
            Text(str(row["class"])),
            f"{row['pixels']:,}",
            _UNKNOWN if _missing(area) else f"{area:.4f}",
            "" if _missing(share) else fraction(share),
        )
    return table


def pairs_table(pairs: Mapping[str, Any]) -> Table:
    """Return names and values, one pair per row; nested values with dotted names."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _flat(pairs):
        table.add_row(Text(name, style="bold"), Text(_cell(value)))
    return table


def rows_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return any list of equal records as a table."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = _table(*(name.replace("_", " ") for name in names))
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    return table


def fraction(value: float | None) -> str:
    """Return a fraction as a percentage; a dash for what is not defined."""
    return _UNKNOWN if _missing(value) else f"{value:.1%}"


def with_interval(value: float | None, ends: Sequence[float | None]) -> str:
    """Return ``"71.2% (64.0-78.1)"``; without the interval where that is not known."""
    known = [end for end in ends if end is not None and math.isfinite(end)]
    if len(known) < 2:
        return fraction(value)
    return f"{fraction(value)} ({known[0] * 100:.1f}–{known[1] * 100:.1f})"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _flat(pairs: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in pairs.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _cell(value: Any) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _table(first: str, *others: str) -> Table:
    table = Table(box=SIMPLE, pad_edge=False)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
