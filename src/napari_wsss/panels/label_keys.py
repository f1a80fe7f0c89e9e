"""Keys for labelling, bound on the viewer while the panel is in front."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtGui import QKeyEvent, QKeySequence

if TYPE_CHECKING:
    import napari

__all__ = ["CLASS_KEYS", "MORE_KEY", "KeyBinder", "class_key", "key_name"]

#: Keys of the classes in order: the rows under the fingers, without what napari or its image
#: layers use. Digits are left to napari, where they choose tools.
CLASS_KEYS = tuple("ASDFGHJKLQWERTUIP")
#: Pressed before the key of a class, it means the class as many further as there are keys.
MORE_KEY = "O"


def class_key(index: int) -> str:
    """Return what to press for the class with this index: ``"A"``, or ``"O A"`` after the last.

    Empty beyond twice as many classes as there are keys; no label can hold so many.
    """
    row, column = divmod(index, len(CLASS_KEYS))
    return ("", f"{MORE_KEY} ")[row] + CLASS_KEYS[column] if row < 2 else ""


class KeyBinder:
    """Binds keys on a viewer and on layers, and gives back what was bound before.

    A key of the selected layer wins over one of the viewer, so the layer that is selected
    while one labels gets the keys too.

    Parameters
    ----------
    actions
        What each key does, by napari's name of it (``"Shift-A"``).
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = dict(actions)
        self._bound: list[tuple[Any, str, Any]] = []

    def bind(self, *targets: Any) -> None:
        """Bind all keys on each target."""
        for target in targets:
            for key, action in self._actions.items():
                self._bound.append((target, key, _bound_to(target, key)))
                target.bind_key(key, _ignoring_parent(action), overwrite=True)

    def unbind(self) -> None:
        """Put back what was bound before."""
        while self._bound:
            target, key, before = self._bound.pop()
            target.bind_key(key, before, overwrite=True)

    def press(self, event: QKeyEvent) -> bool:
        """Do what the key of an event does; returns whether it does anything.

        For keys that reach a panel, as after a click on one of its buttons.
        """
        action = self._actions.get(key_name(event))
        if action is not None:
            action()
        return action is not None


def key_name(event: QKeyEvent) -> str:
    """Return napari's name of the keys of an event, such as ``"Ctrl-Shift-Z"``."""
    text = QKeySequence(event.keyCombination()).toString(QKeySequence.SequenceFormat.PortableText)
    return text.replace("+", "-").replace("Del", "Delete")


def _bound_to(target: Any, key: str) -> Callable | None:
    from napari.utils.key_bindings import coerce_keybinding

    return target.keymap.get(coerce_keybinding(key))


def _ignoring_parent(action: Callable[[], None]) -> Callable[[napari.viewer.Viewer], None]:
    return lambda _: action()
