"""PatchReport: what a patch set holds, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from napari_wsss.errors import listed

__all__ = ["PatchReport", "Problem", "Severity"]

Severity = Literal["error", "warning", "info"]


class Problem(NamedTuple):
    """Something about a patch set that the user should know.

    Attributes
    ----------
    severity
        'error': training refuses the set; 'warning': it trains, but look at it.
    message
        What, where, and what to do.
    """

    severity: Severity
    message: str


@dataclass(frozen=True)
class PatchReport:
    """Summary of a patch set.

    Attributes
    ----------
    root, format
        Where the set is, and how its labels were read.
    n_patches, n_groups
        Number of patches and of groups (images, slides or patients).
    mpp
        µm/px, None where unknown.
    classes
        Patches per class.
    combinations
        Patches per combination of classes ('tumour + stroma'), most frequent first.
    splits
        Patches per split; ``split_classes`` the same per class.
    sizes_px
        Patches per size ('112 x 112', width x height).
    imbalance
        Patches of the most frequent class per patch of the rarest that occurs.
    single_label
        Patches with exactly one class.
    unreadable
        Errors of the files that cannot be read; with ``deep=False`` of their headers only.
    duplicates
        Names of patches with equal pixels, in groups; empty with ``deep=False``.
    glass_share
        Share of pixels brighter than luminance 200; None with ``deep=False``.
    problems
        What the user should know, errors first.
    """

    root: str
    format: str
    n_patches: int
    n_groups: int
    mpp: float | None
    classes: Mapping[str, int]
    combinations: Mapping[str, int]
    splits: Mapping[str, int]
    split_classes: Mapping[str, Mapping[str, int]]
    sizes_px: Mapping[str, int]
    imbalance: float
    single_label: int
    unreadable: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    glass_share: float | None = None
    problems: tuple[Problem, ...] = field(default=())

    @property
    def errors(self) -> tuple[str, ...]:
        """Messages of the problems that training refuses."""
        return tuple(p.message for p in self.problems if p.severity == "error")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        data = asdict(self)
        data["problems"] = [p._asdict() for p in self.problems]
        data["unreadable"] = list(self.unreadable)
        data["duplicates"] = [list(names) for names in self.duplicates]
        return data

    def to_text(self) -> str:
        """Return the report as lines for a terminal."""
        mpp = "unknown" if self.mpp is None else f"{self.mpp:g} µm/px"
        lines = [
            f"{self.root} ({self.format})",
            f"{self.n_patches} patches in {self.n_groups} groups, {self.single_label} with a "
            f"single class, resolution {mpp}",
            "Splits:       " + _counts(self.splits),
            "Sizes (px):   " + _counts(self.sizes_px),
        ]
        if self.glass_share is not None:
            lines.append(f"Bright share: {self.glass_share:.1%} of the pixels")
        lines += ["", *_bars("Class", self.classes, self.n_patches)]
        lines.append(f"Most frequent to rarest class: {self.imbalance:.1f} to 1")
        lines += ["", *_bars("Combination", self.combinations, self.n_patches)]
        if self.problems:
            lines += ["", "Problems:" + listed(f"{s}: {m}" for s, m in self.problems)]
        else:
            lines += ["", "No problems found."]
        return "\n".join(lines)


def _counts(counts: Mapping[str, int], most: int = 6) -> str:
    shown = ", ".join(f"{key} ({n})" for key, n in list(counts.items())[:most])
    rest = len(counts) - most
    return f"{shown}, and {rest} more" if rest > 0 else shown or "none"


def _bars(title: str, counts: Mapping[str, int], total: int, most: int = 24) -> list[str]:
    """Return a table of counts with their share of `total`."""
    width = max([len(title), *(len(key) for key in counts)])
    lines = [f"{title:<{width}}  patches  share"]
    for key, n in list(counts.items())[:most]:
        lines.append(f"{key:<{width}}  {n:7d}  {n / max(total, 1):5.1%}")
    if len(counts) > most:
        lines.append(f"and {len(counts) - most} more")
    return lines
