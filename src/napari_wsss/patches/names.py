"""What the released data sets write into file names: labels, patients, µm/px."""

from __future__ import annotations

import re

__all__ = ["MPP_RANGE", "group_of", "label_text", "mpp_of", "parse_label", "without_label"]

#: µm/px outside of this range is a mistake, not a resolution.
MPP_RANGE = (0.01, 100.0)

_LABEL = re.compile(r"\[([^\[\]]*)\]$")
_MPP = re.compile(r"MPP-(\d+(?:\.\d+)?)")
_TCGA_PATIENT = re.compile(r"(?<![A-Z0-9])TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Z0-9])")
_SLIDE_X_Y = re.compile(r"([A-Za-z0-9]+)-\d+-\d+$")


def label_text(stem: str) -> str | None:
    """Return what stands between the brackets that end `stem`, or None without brackets.

    Examples
    --------
    >>> label_text("1031280-2300-27920-[1 0 0 1]")
    '1 0 0 1'
    """
    found = _LABEL.search(stem)
    return found.group(1) if found else None


def parse_label(text: str) -> list[int] | None:
    """Return the label vector in one of the three spellings; None if it is none.

    Examples
    --------
    >>> parse_label("1 0 0 1"), parse_label("0, 1, 0"), parse_label("1101"), parse_label("2 0")
    ([1, 0, 0, 1], [0, 1, 0], [1, 1, 0, 1], None)
    """
    text = text.strip()
    parts = re.split(r"[,\s]+", text) if re.search(r"[,\s]", text) else list(text)
    if not parts or any(part not in {"0", "1"} for part in parts):
        return None
    return [int(part) for part in parts]


def without_label(stem: str) -> str:
    """Return `stem` without its label vector and the hyphen before it."""
    return _LABEL.sub("", stem).rstrip("-")


def group_of(stem: str) -> str | None:
    """Return the patient or slide that `stem` names; None where none is recognised.

    Examples
    --------
    >>> group_of("1031280-2300-27920-[1 0 0 1]")
    '1031280'
    >>> group_of("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101]")
    'TCGA-A1-A0SK'
    """
    patient = _TCGA_PATIENT.search(stem)
    if patient:
        return patient.group(0)
    slide = _SLIDE_X_Y.fullmatch(without_label(stem))
    return slide.group(1) if slide else None


def mpp_of(stem: str) -> float | None:
    """Return the µm/px that `stem` names as ``MPP-0.2500``; None if it names none."""
    found = _MPP.search(stem)
    return float(found.group(1)) if found else None
