"""Class tables of the public data sets whose labels stand in the file names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from napari_wsss.classes import ClassTable
from napari_wsss.patches.names import without_label

__all__ = ["PRESETS", "Preset", "choose_preset"]

_SLIDE_X_Y = r"\d+-\d+-\d+"


@dataclass(frozen=True)
class Preset:
    """A released data set.

    Attributes
    ----------
    key
        Name of the format.
    pattern
        What its file names look like without suffix and label vector.
    classes
        Classes in the order of the label vectors, with the mask values of its masks.
    glass
        Whether white pixels are no class ('ignore') or tissue such as fat ('tissue').
    """

    key: str
    pattern: str
    classes: ClassTable
    glass: Literal["ignore", "tissue"]

    def fits(self, stem: str, length: int) -> bool:
        """Whether a file name and the length of its label vector are this set's."""
        return length == len(self.classes) and bool(
            re.fullmatch(self.pattern, without_label(stem))
        )


#: The released sets that are recognised, by format name.
PRESETS: dict[str, Preset] = {
    preset.key: preset
    for preset in (
        Preset(
            "luad-histoseg",
            _SLIDE_X_Y,
            ClassTable.from_names(
                ["tumour epithelium", "necrosis", "lymphocyte", "tumour-associated stroma"],
                values=range(4),
                ignore=[4],
                colors=["#d55e00", "#f0e442", "#0072b2", "#009e73"],
            ),
            "ignore",
        ),
        Preset(
            "bcss-wsss",
            r"TCGA-.+_xmin\d+_ymin\d+_MPP-[\d.]+(\+\d+)?",
            ClassTable.from_names(
                ["tumour", "stroma", "lymphocyte", "necrosis"],
                values=range(4),
                ignore=[4],
                colors=["#d55e00", "#009e73", "#0072b2", "#f0e442"],
            ),
            "tissue",
        ),
        Preset(
            "wsss4luad",
            _SLIDE_X_Y,
            ClassTable.from_names(
                ["tumour", "stroma", "normal"],
                values=range(3),
                ignore=[3],
                colors=["#d55e00", "#009e73", "#0072b2"],
            ),
            "ignore",
        ),
    )
}


def choose_preset(labelled: Iterable[tuple[str, int]]) -> Preset | None:
    """Return the preset that most names fit; None if most fit none.

    Parameters
    ----------
    labelled
        File name without suffix, and length of its label vector, of each patch. The
        majority decides, so that a few spoilt names do not hide what the set is.
    """
    pairs = list(labelled)
    votes = {
        key: sum(preset.fits(stem, length) for stem, length in pairs)
        for key, preset in PRESETS.items()
    }
    best = max(votes, key=lambda key: votes[key])
    return PRESETS[best] if pairs and votes[best] > len(pairs) / 2 else None
