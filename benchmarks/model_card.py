"""The card of the shipped model: what a user must know before trusting it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_wsss.models import ModelInfo

__all__ = ["card"]

TEMPLATE = Path(__file__).with_name("model_card.md")


def card(name: str, info: ModelInfo, measured: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    name
        Of the model.
    info
        Its header.
    measured
        `Evaluation.to_dict` of models of the same recipe, on images they had not seen.
    plan
        Budget of each phase.
    """
    gate, oracle = (measured["protocols"][p] for p in ("predicted_gate", "oracle_labels"))
    rows = "\n".join(
        f"| IoU {k} | {percent(gate['iou'][k])} | {ends(gate['iou_interval95'][k])} "
        f"| {percent(oracle['iou'][k])} |"
        for k in gate["iou"]
    )
    doubt = measured.get("uncertainty", {})
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=name,
        classes=", ".join(info.class_table.names),
        size_px=info.patch_size_px,
        encoder=info.encoder.name,
        temperature=f"{info.temperature:.2f}",
        steps=f"{plan['epochs']} epochs of {plan['steps_per_epoch']} steps in each phase",
        how=measured["conditions"]["how"],
        miou=percent(gate["miou"]),
        miou_ends=ends(gate["interval95"]),
        miou_oracle=percent(oracle["miou"]),
        accuracy=percent(gate["accuracy"]),
        accuracy_oracle=percent(oracle["accuracy"]),
        rows=rows,
        ece=number(doubt.get("ece")),
        aurc=number(doubt.get("aurc")),
        chance=number(doubt.get("aurc_chance")),
        tenth=percent(doubt.get("errors_in_most_uncertain_tenth")),
        seed=info.seed,
        version=info.package_version,
    )


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def ends(interval: list[float | None]) -> str:
    low, high = interval
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
