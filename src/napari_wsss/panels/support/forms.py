"""A form made from a settings model: its fields, bounds and sentences stand there once."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any, Literal, get_args, get_origin

from magicgui.widgets import CheckBox, ComboBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from pydantic.fields import FieldInfo
from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_wsss.errors import SettingsError
from napari_wsss.panels.support.fold import folding
from napari_wsss.settings import Settings

__all__ = ["SettingsForm"]

_WORDS = {
    "px": "(px)",
    "mpp": "(µm/px)",
    "lr": "learning rate",
    "pda": "progressive dropout attention",
    "color": "colour",
}


class SettingsForm(QWidget):
    """Edits the settings of one stage.

    Parameters
    ----------
    model
        The settings model.
    simple
        Dotted names of the fields that are always in view, such as ``"encoder.name"``.
    hidden
        Dotted names of fields, or of groups of them, that the form leaves at their values.

    Attributes
    ----------
    changed
        Signal: a field was edited.
    """

    changed = Signal()

    def __init__(
        self,
        model: type[Settings],
        simple: Sequence[str],
        *,
        hidden: Sequence[str] = (),
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model = model
        self._base = model()
        self._rows: dict[str, _Row] = {}
        self._problem = QLabel()
        self._problem.setWordWrap(True)
        self._problem.setVisible(False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        fields = dict(_fields(model))
        unknown = [name for name in simple if name not in fields]
        if unknown:
            raise KeyError(f"{model.__name__} has no {', '.join(unknown)}")
        above = _form()
        layout.addLayout(above)
        for name in simple:
            self._add(above, name, fields[name])
        rest = [n for n in fields if n not in simple and not _within(n, hidden)]
        if rest:
            layout.addWidget(self._folded(rest, fields))
        layout.addWidget(self._problem)
        self.set_settings(self._base)

    def settings(self) -> Settings:
        """Return what the form says.

        Raises
        ------
        SettingsError
            Naming every field that does not fit.
        """
        values = self._base.model_dump()
        for name, row in self._rows.items():
            target = values
            *groups, last = name.split(".")
            for group in groups:
                target = target[group]
            target[last] = row.value()
        return self._model.from_dict(values, "These settings are")

    def set_settings(self, settings: Settings) -> None:
        """Show other settings; fields that the form hides are taken over, too."""
        self._base = settings
        for name, row in self._rows.items():
            value: Any = settings
            for part in name.split("."):
                value = getattr(value, part)
            row.show(value)
        self._check()

    # -- making it --------------------------------------------------------------------

    def _add(self, form: QFormLayout, name: str, field: FieldInfo) -> None:
        row = _Row(field)
        row.widget.changed.connect(self._edited)
        native = row.widget.native
        text = field.description or ""
        label = QLabel(_label(name))
        for widget in (native, label):
            widget.setToolTip(f"<p>{text}</p>")  # rich text wraps
        native.setAccessibleName(_label(name))
        native.installEventFilter(self)
        native.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        form.addRow(label, native)
        self._rows[name] = row

    def _folded(self, names: Sequence[str], fields: dict[str, FieldInfo]) -> QWidget:
        group, layout = folding("Advanced", folded=True)
        heading, form = "", _form()
        layout.addLayout(form)
        for name in names:
            part = name.rpartition(".")[0]
            if part != heading:
                heading, form = part, _form()
                title = QLabel(f"<b>{_label(part)}</b>")
                layout.addWidget(title)
                layout.addLayout(form)
            self._add(form, name, fields[name])
        return group

    # -- while it is edited -------------------------------------------------------------

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:
        """Let the wheel scroll the panel, not change a value that it happens to pass over."""
        if (
            event is not None
            and event.type() == QEvent.Type.Wheel
            and isinstance(watched, QWidget)
            and not watched.hasFocus()
        ):
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _edited(self, _: object = None) -> None:
        self._check()
        self.changed.emit()

    def _check(self) -> None:
        try:
            self.settings()
        except SettingsError as error:
            self._problem.setText(str(error))
            self._problem.setVisible(True)
        else:
            self._problem.setVisible(False)


class _Row:
    """One field: a widget, and how its value is read and shown."""

    def __init__(self, field: FieldInfo) -> None:
        annotation = field.annotation
        self._text = False
        self._several = _may_be_several(annotation)
        self.widget: ValueWidget
        if annotation is bool:
            self.widget = CheckBox()
        elif get_origin(annotation) is Literal:
            self.widget = ComboBox(choices=list(get_args(annotation)))
        elif annotation is int:
            low, high = _bounds(field)
            self.widget = SpinBox(min=low, max=high)
        else:
            # Numbers of any size, 'auto' or a number, several numbers: as text, which the
            # settings model understands or refuses with a reason.
            self.widget = LineEdit()
            self._text = annotation is not str

    def value(self) -> Any:
        value = self.widget.value
        if not self._text:
            return value
        try:
            found = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            return value.strip()
        return (found,) if self._several and not isinstance(found, tuple | str) else found

    def show(self, value: Any) -> None:
        with self.widget.changed.blocked():
            if not self._text:
                self.widget.value = value
            elif isinstance(value, tuple):
                self.widget.value = ", ".join(f"{v:g}" for v in value)
            else:
                self.widget.value = f"{value:g}" if isinstance(value, float) else str(value)
            if isinstance(self.widget, LineEdit):
                self.widget.native.setCursorPosition(0)  # the beginning of long names


def _form() -> QFormLayout:
    form = QFormLayout()
    form.setContentsMargins(0, 0, 0, 0)
    form.setVerticalSpacing(4)
    form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
    return form


def _fields(model: type[Settings], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the dotted name and description of every field, plain ones before groups."""
    groups = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Settings):
            groups.append((f"{prefix}{name}.", kind))
        else:
            yield f"{prefix}{name}", field
    for start, kind in groups:
        yield from _fields(kind, start)


def _within(name: str, groups: Sequence[str]) -> bool:
    return any(name == group or name.startswith(f"{group}.") for group in groups)


def _bounds(field: FieldInfo) -> tuple[int, int]:
    """Return the smallest and largest integer; spin boxes of Qt end at 31 bits."""
    low, high = 0, 2**31 - 1
    for limit in field.metadata:
        low = int(getattr(limit, "ge", low))
        high = int(getattr(limit, "le", high))
    return low, min(high, 2**31 - 1)


def _may_be_several(annotation: Any) -> bool:
    """Whether a field takes a tuple, alone or among others such as 'auto'."""
    if get_origin(annotation) is tuple:
        return True
    parts = () if get_origin(annotation) is Literal else get_args(annotation)
    return any(_may_be_several(part) for part in parts)


def _label(name: str) -> str:
    """Return "Encoder learning rate" of "optimiser.encoder_lr"."""
    words = [_WORDS.get(word, word) for word in name.rpartition(".")[2].split("_")]
    text = " ".join(words)
    if text == "name":  # of a group, which its heading or this names
        text = name.rpartition(".")[0] or text
    return text[:1].upper() + text[1:]
