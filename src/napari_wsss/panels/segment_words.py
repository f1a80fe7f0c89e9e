"""What the segment panel says of models and results, and the field in which it asks for µm/px."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QDoubleSpinBox, QWidget

from napari_wsss.errors import listed

if TYPE_CHECKING:
    from napari_wsss.inference import RunStatus
    from napari_wsss.models import ModelInfo

__all__ = ["MppField", "differs_text", "model_text", "start_text"]

#: Classes of a model that are listed.
_NAMED = 8
#: What the first part of a differing field is called.
_OTHER = {
    "model": "the model is another one",
    "slide": "the slide is another one, or its µm/px is",
    "version": "it was made by another version of napari-wsss",
    "device": "it was computed on another device",
    "kind": "it is of another kind",
    "precision": "it was computed in another precision (bf16, fp32)",
}


class MppField(QDoubleSpinBox):
    """Asks for µm/px; empty, and 0, until the user gives it."""

    def __init__(self, tip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setRange(0.0, 100.0)
        self.setDecimals(4)
        self.setSingleStep(0.05)
        self.setSuffix(" µm/px")
        self.setSpecialValueText("µm/px: not known")
        self.setToolTip(f"<p>{tip}. 20x is about 0.5, 40x about 0.25.</p>")
        self.setKeyboardTracking(False)

    def value_or_none(self) -> float | None:
        """Return µm/px; None if it was not given."""
        return self.value() or None

    def reset(self) -> None:
        """Empty the field without telling anybody."""
        self.blockSignals(True)
        self.setValue(0.0)
        self.blockSignals(False)


def model_text(info: ModelInfo | None) -> str:
    """Return what a model is, in one line."""
    if info is None:
        return ""
    kind = "Classifier (coarse result from its class maps)"
    if info.kind == "segmenter":
        kind = f"Segmenter, learned from {info.supervision}"
    mpp = "" if info.mpp is None else f", {info.mpp:g} µm/px"
    names = info.class_table.names
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{kind}{mpp}: {', '.join(names[:_NAMED])}{more}"


def start_text(status: RunStatus | None) -> str:
    """Return what the button says."""
    if status is None or status.state in ("new", "other"):
        return "Segment slide"
    if status.state == "finished":
        return "Show result"
    return f"Go on ({status.done} of {status.total} blocks done)"


def differs_text(status: RunStatus) -> str:
    """Return what is in the way of a result, and how it differs."""
    if not status.different:
        return f"{status.path} is in the way and no result of this program."
    rows = listed(_in_words(status.different))
    return f"{status.path.name} is there already and was made from something else:{rows}"


def _in_words(different: Iterable[str]) -> list[str]:
    """Return one phrase per difference; of models and slides one for all of theirs."""
    phrases: dict[str, None] = {}
    for line in different:
        field, _, rest = line.partition(": ")
        first, _, last = field.partition(".")
        if first == "settings":
            old, _, new = rest.removesuffix(" now").partition(" then, ")
            phrases[f"{last.replace('_', ' ')} was {old}, is {new}"] = None
        elif first in _OTHER:
            phrases[_OTHER[first]] = None
    return list(phrases)
