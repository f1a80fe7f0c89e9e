"""What one sees and clicks while labelling a slide."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.panels.label_classes import ClassButtons
from napari_wsss.panels.label_keys import MORE_KEY
from napari_wsss.panels.label_session import LabelSession
from napari_wsss.panels.support.fold import folding
from napari_wsss.patches import LEFT_OUT

__all__ = ["LabelBoard"]

_KEYS = """<table cellspacing="3">
<tr><td><b>A S D …</b></td><td>class on or off</td></tr>
<tr><td><b>Shift + A …</b></td><td>only this class, next</td></tr>
<tr><td><b>O, then A …</b></td><td>classes after the 17th</td></tr>
<tr><td><b>N</b></td><td>next patch</td></tr>
<tr><td><b>arrows</b></td><td>neighbouring patch</td></tr>
<tr><td><b>B</b></td><td>leave out, next</td></tr>
<tr><td><b>Delete</b></td><td>take all labels away</td></tr>
<tr><td><b>Ctrl Z</b></td><td>undo</td></tr>
<tr><td><b>Ctrl Shift Z</b></td><td>redo</td></tr>
<tr><td><b>Shift drag</b></td><td>paint over patches</td></tr>
</table>"""


class LabelBoard(QWidget):
    """Modes, classes, commands and counts of a session.

    Attributes
    ----------
    buttons
        The classes.
    next_box, set_box
        Layouts for what chooses the next patch, and for the data set.
    command
        Signal with ``"next"``, ``"left_out"``, ``"clear"``, ``"undo"`` or ``"redo"``.
    painting
        Signal: whether dragging paints.
    add_requested
        Signal with the name of a class to add.
    """

    command = Signal(str)
    painting = Signal(bool)
    add_requested = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self.progress = QLabel()
        self.progress.setWordWrap(True)
        layout.addWidget(self.progress)
        self.one = _button("One by one", "Keys and buttons label the framed patch")
        self.many = _button("Paint", "Drag over patches to give them the classes that are on")
        modes = QButtonGroup(self)
        for button in (self.one, self.many):
            button.setCheckable(True)
            modes.addButton(button)
        self.one.setChecked(True)
        self.many.toggled.connect(self.painting)
        layout.addLayout(_row(self.one, self.many))
        self.hint = QLabel()
        self.hint.setTextFormat(Qt.TextFormat.PlainText)  # names of classes may look like tags
        self.hint.setWordWrap(True)
        layout.addWidget(self.hint)
        self.buttons = ClassButtons()
        layout.addWidget(self.buttons)
        self.name = QLineEdit()
        self.name.setPlaceholderText("Another class")
        self.name.returnPressed.connect(self._add)
        add = _button("Add", "Add this class")
        add.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        add.clicked.connect(self._add)
        line = _row(self.name, add)
        line.setStretch(0, 1)
        layout.addLayout(line)
        commands = {
            "undo": ("Undo", "Take the last change back (Ctrl + Z)"),
            "redo": ("Redo", "Make it again (Ctrl + Shift + Z)"),
            "left_out": ("Leave out", "Not to be used: glass, blur, folds (B)"),
            "next": ("Next", "The next patch (N)"),
        }
        self.commands = {name: _button(*texts) for name, texts in commands.items()}
        for name, button in self.commands.items():
            button.clicked.connect(lambda _=False, name=name: self.command.emit(name))
        layout.addLayout(_row(*self.commands.values()))
        self.next_box = QVBoxLayout()
        layout.addLayout(self.next_box)
        keys, content = folding("Keys", folded=True)
        label = QLabel(_KEYS)
        label.setTextFormat(Qt.TextFormat.RichText)
        label.setWordWrap(True)
        label.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        content.addWidget(label)
        layout.addWidget(keys)
        self.set_box = QVBoxLayout()
        layout.addLayout(self.set_box)

    def show_session(
        self,
        session: LabelSession,
        counts: Sequence[int],
        code: int,
        *,
        painting: bool,
        further: bool = False,
    ) -> None:
        """Show how far it is.

        Parameters
        ----------
        session
            The session.
        counts
            Patches per class.
        code
            Classes of the patch or, if `painting`, of the brush.
        painting
            Whether dragging paints.
        further
            Whether the second key of a class is awaited.
        """
        self.progress.setText(session.progress_text())
        self.buttons.set_classes(session.labels.classes)
        self.buttons.show_state(code, counts)
        self.commands["undo"].setEnabled(session.labels.can_undo)
        self.commands["redo"].setEnabled(session.labels.can_redo)
        self.many.setChecked(painting)
        self.one.setChecked(not painting)
        names = [n for k, n in enumerate(session.labels.classes.names) if code >> k & 1]
        if code == LEFT_OUT:
            what = "leave out"
        elif names:
            what = " + ".join(names)
        else:
            what = "no label"
        said = f"The brush paints: {what}" if painting else f"This patch: {what}"
        self.hint.setText(f"{MORE_KEY}, and now the class's second key …" if further else said)

    def _add(self) -> None:
        name = self.name.text().strip()
        if name:
            self.name.clear()
            self.add_requested.emit(name)


def _button(text: str, tip: str) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.setMinimumWidth(48)
    return button


def _row(*widgets: QWidget) -> QHBoxLayout:
    row = QHBoxLayout()
    row.setSpacing(4)
    for widget in widgets:
        row.addWidget(widget)
    return row
