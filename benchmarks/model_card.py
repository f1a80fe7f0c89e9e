"""The card of the shipped model: what a user must know before trusting it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_wsss.models import ModelInfo

__all__ = ["card"]

_MASKS = (
    "Masks are used here and nowhere else; the recipe itself was chosen with some of these images "
    "in view. Intervals are of 95 %, over images."
)
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
    return TEMPLATE.read_text(encoding="utf-8").format(
        name=name,
        classes=", ".join(info.class_table.names),
        size_px=info.patch_size_px,
        encoder=info.encoder.name,
        temperature=temperature(info.temperature),
        steps=f"{plan['epochs']} epochs of {plan['steps_per_epoch']} steps in each phase",
        how=textwrap.fill(f"{measured['conditions']['how']} {_MASKS}", 100),
        miou=percent(gate["miou"]),
        miou_ends=ends(gate["interval95"]),
        miou_oracle=percent(oracle["miou"]),
        accuracy=percent(gate["accuracy"]),
        accuracy_oracle=percent(oracle["accuracy"]),
        rows=rows,
        uncertainty=uncertainty(measured.get("uncertainty")),
        seed=info.seed,
        version=info.package_version,
    )


def temperature(value: float) -> str:
    if value == 1:
        return "as the network gives them; held-out patch labels do not show it too sure"
    return f"divided by temperature {value:.2f}, fitted to held-out patch labels"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def uncertainty(found: Mapping[str, Any] | None) -> str:
    """Return the paragraph about the uncertainty; none if it was not measured."""
    if found is None:
        return ""
    return (
        f"Uncertainty: the area under the curve of risk against coverage is {found['aurc']:.3f}, "
        f"where an order by\nchance has {found['aurc_chance']:.3f}; the most uncertain tenth of "
        f"the pixels holds {percent(found['errors_in_most_uncertain_tenth'])} of the errors.\n"
        f"The expected calibration error is {found['ece']:.3f}.\n\n"
    )


def ends(interval: list[float | None]) -> str:
    low, high = interval
    return "–" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
