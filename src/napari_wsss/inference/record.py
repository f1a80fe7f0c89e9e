"""The record of a run: what its result is determined by, and what of it differs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_wsss import __version__
from napari_wsss.inference.blocks import SlidePlan
from napari_wsss.models import WsssModel, weights_digest
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Slide

__all__ = ["OUTCOME", "differences", "precision_of_run", "run_record"]

#: Fields of ``run.json`` that say how a run ended and what became of it, not what it computes.
OUTCOME = ("complete", "summary", "corrections", "checksums", "digest")
#: What results are by settings that did not exist when their record was written.
_BEFORE = {"settings.gate_windows": "mean"}
#: Settings that do not change a result.
_HOW = ("settings.batch_size", "settings.readers", "settings.unreadable")


def run_record(
    kind: str,
    slide: Slide,
    model: WsssModel,
    settings: InferenceSettings,
    plan: SlidePlan,
    device: str,
    precision: str,
    earlier: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what a result is determined by.

    Parameters
    ----------
    kind
        ``"segmentation"`` or ``"maps"``.
    slide, model, settings, plan
        Of the run; of the plan only the grid counts.
    device
        What `describe_device` says.
    precision
        ``"bf16"`` or ``"fp32"``, see `precision_of_run`.
    earlier
        Record of what is there already; a fingerprint of an earlier version that it holds is
        kept if it is of `slide`.
    """
    known = earlier.get("slide")
    stored = known.get("fingerprint") if isinstance(known, Mapping) else None
    same = isinstance(stored, str) and slide.was(stored)
    return {
        "kind": kind,
        "version": __version__,
        "slide": {
            "name": slide.name,
            "shape": list(slide.shape),
            "mpp": slide.mpp,
            "fingerprint": stored if same else slide.fingerprint,
        },
        "model": {"sha256": weights_digest(model), **model.info.model_dump(mode="json")},
        "settings": settings.model_dump(mode="json"),
        "device": device.split(" (")[0] if device.startswith("cpu") else device,
        "precision": precision,
        "shape": list(plan.shape),
        "downsample": [float(d) for d in plan.grid.downsample],
    }


def precision_of_run(earlier: Mapping[str, Any], settings: InferenceSettings, native: str) -> str:
    """Return in which precision a run computes, so that its blocks do not mix two.

    With ``precision="auto"`` a run goes on in float32 if it began so on another machine, and a
    finished result is taken as it is. One that began in bfloat16 does not go on where that is
    emulated, which is slow and need not give the same numbers: `differences` names it.

    Parameters
    ----------
    earlier
        Record of what is there already; empty if nothing is, or if it is to be replaced.
    settings
        Of the run.
    native
        What the settings mean on the device, ``"bf16"`` or ``"fp32"``.
    """
    begun = earlier.get("precision")
    if settings.precision != "auto" or not isinstance(begun, str):
        return native
    return begun if begun == "fp32" or earlier.get("complete") else native


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return "field: earlier, now" for whatever decides on the result and is not equal."""
    old, new = {**_BEFORE, **dict(_flat(earlier))}, {**_BEFORE, **dict(_flat(now))}
    rows = []
    for key in sorted(old.keys() | new.keys()):
        if key.split(".")[0] in OUTCOME or key in _HOW or old.get(key) == new.get(key):
            continue
        if key == "precision" and key not in old:  # of a version that did not say
            continue
        row = f"{key}: {old.get(key)} then, {new.get(key)} now"
        if key == "precision":
            row += f" (a machine that computes in {old[key]} can go on with it)"
        rows.append(row)
    return rows


def _flat(record: Mapping[str, Any], prefix: str = "") -> Any:
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
