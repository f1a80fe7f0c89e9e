"""What the panels of one viewer hand to each other: what one makes, the next offers."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from psygnal import Signal

from napari_wsss.errors import SlideError
from napari_wsss.panels.support.layers import METADATA, named_result

if TYPE_CHECKING:
    from napari.layers import Layer

    from napari_wsss.patches import PatchSet

__all__ = ["WorkState", "state_of"]


class WorkState:
    """The work in one viewer. Panels read it, set it, and know nothing else of each other.

    Attributes
    ----------
    patch_set
        The data set that was loaded or labelled last.
    classifier, segmenter
        Checkpoint files, trained or chosen last.
    pseudo_masks
        Folder of the pseudo masks that were made or chosen last.
    masked
        The data set that those were made of.
    corrections
        Folder of corrected patches with true masks, added to last.
    result
        Folder ``NAME.ome.zarr`` of the finished result that was made, opened or selected last.
    shown
        The result whose labels were opened or selected last, finished or not.
    folder
        Where the user works: outputs go there unless another place is chosen.
    changed
        Emitted with the name of each attribute that `set` changed.
    """

    changed = Signal(str)
    _FIELDS: ClassVar = (
        "patch_set", "classifier", "pseudo_masks", "masked", "corrections", "segmenter", "result",
        "shown", "folder",
    )  # fmt: skip

    def __init__(self) -> None:
        self.patch_set: PatchSet | None = None
        self.classifier: Path | None = None
        self.pseudo_masks: Path | None = None
        self.masked: PatchSet | None = None
        self.corrections: Path | None = None
        self.segmenter: Path | None = None
        self.result: Path | None = None
        self.shown: Path | None = None
        self.folder: Path | None = None

    def set(self, **fields: Any) -> None:
        """Set attributes by name, then emit `changed` for each that is another object now.

        Raises
        ------
        AttributeError
            If there is no such attribute.
        """
        unknown = sorted(set(fields) - set(self._FIELDS))
        if unknown:
            raise AttributeError(f"The state of a viewer has no {', '.join(unknown)}.")
        changed = []
        for name, value in fields.items():
            old = getattr(self, name)
            # A patch set is a new one even where it describes the same files; paths compare.
            same = old is value or (isinstance(value, Path) and old == value)
            if not same:
                setattr(self, name, value)
                changed.append(name)
        for name in changed:
            self.changed.emit(name)

    def follow(self, viewer: Any) -> None:
        """Take note of results that are in a viewer, come into it, or are selected."""
        viewer.layers.events.inserted.connect(self._inserted)
        viewer.layers.selection.events.active.connect(self._selected)
        for layer in viewer.layers:
            self._take_note(layer)

    def _inserted(self, event: Any) -> None:
        self._take_note(event.value)

    def _selected(self, event: Any) -> None:
        path = _labelled_result(event.value)
        if path is not None:
            self._set_shown(path, path == self.result or _is_finished(path))

    def _take_note(self, layer: Layer) -> None:
        path = _labelled_result(layer)
        if path is None:
            return
        finished = bool(layer.metadata[METADATA].get("complete"))
        known = path == (self.result if finished else self.shown)
        self._set_shown(path, finished)
        if known:  # the same one, but its layers are others
            self.changed.emit("result" if finished else "shown")

    def _set_shown(self, path: Path, finished: bool) -> None:
        self.set(shown=path, **({"result": path} if finished else {}))


def _labelled_result(layer: Layer | None) -> Path | None:
    """Return the result whose labels a layer shows, by its metadata; None for other layers."""
    return named_result(layer) if type(layer).__name__ == "Labels" else None


def _is_finished(path: Path) -> bool:
    """Whether a result is there and whole now, whatever it was when its layer was made."""
    from napari_wsss.inference.result import read_run

    try:
        return bool(read_run(path).get("complete"))
    except SlideError:
        return False


#: By the identity of the viewer: proxies of one viewer must share its state.
_STATES: dict[int, WorkState] = {}


def state_of(viewer: Any) -> WorkState:
    """Return the state of a viewer, the same object for all its panels."""
    viewer = getattr(viewer, "__wrapped__", viewer)
    key = id(viewer)
    if key not in _STATES:
        _STATES[key] = state = WorkState()
        state.follow(viewer)
        weakref.finalize(viewer, _STATES.pop, key, None)
    return _STATES[key]
