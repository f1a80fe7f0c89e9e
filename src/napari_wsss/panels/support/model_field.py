"""Choosing a model: one of the registered ones, or a file."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QModelIndex, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from napari_wsss.errors import WsssError
from napari_wsss.models.registry import RegisteredModel, registered_models
from napari_wsss.panels.support.choosers import PathField

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ModelCard", "ModelField"]

#: Widest the opened list gets (pixels); what a model is for is cut off behind it.
_WIDEST = 640


class ModelField(QWidget):
    """A model: chosen from the registered ones, typed, browsed for, or dropped as a file.

    Parameters
    ----------
    caption
        Title of the dialog, and what the empty field shows.

    Attributes
    ----------
    changed
        Signal with the path, or None, when it is another one.
    line
        Where a name or a path can be typed.
    choices
        The list of registered models.
    about
        Says what the chosen one is for, with a link to its card.
    """

    changed = Signal(object)

    def __init__(self, caption: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._field = PathField("open", caption, "Models (*.safetensors)")
        self._card: ModelCard | None = None
        self.line = self._field.line
        self.choices = _Choices()
        row = self._field.layout()
        if row is not None:
            row.replaceWidget(self.line, self.choices)
        self.choices.take(self.line)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.linkActivated.connect(self.show_card)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self._field)
        layout.addWidget(self.about)
        self.choices.chosen.connect(self._take)
        self._field.changed.connect(self._changed)
        self._describe()

    @property
    def path(self) -> Path | None:
        """The file, or the name of a registered model, which stands for one; None if empty."""
        return self._field.path

    @path.setter
    def path(self, path: Path | None) -> None:
        self._field.path = path

    @property
    def registered(self) -> RegisteredModel | None:
        """The registered model whose name is in the field; None if there is another path."""
        name = self.line.text().strip()
        return next((m for m in self.choices.models if m.entry.name == name), None)

    def show_card(self, _: object = None) -> None:
        """Show the card of the chosen model in a window of its own."""
        model = self.registered
        if model is not None:
            self._card = ModelCard(model.entry.name, self)
            self._card.show()

    def _take(self, name: str) -> None:
        self.path = Path(name)

    def _changed(self, path: object) -> None:
        self._describe()
        self.changed.emit(path)

    def _describe(self) -> None:
        model, problem = self.registered, self.choices.problem
        text = escape(problem)
        if model is not None:
            text = f'{escape(model.entry.purpose)} <a href="card">Model card</a>'
        self.about.setText(text)
        self.about.setVisible(bool(text))


class _Choices(QComboBox):
    """The registered models, by name, with what each is for; read anew when it is opened.

    Attributes
    ----------
    chosen
        Signal with the name that was chosen.
    models
        What is offered.
    problem
        Why the registry cannot be read; empty if it can.
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.models: Sequence[RegisteredModel] = ()
        self.problem = ""
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setMinimumContentsLength(12)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setItemDelegate(_WithPurpose(self))
        self.textActivated.connect(self.chosen)

    def take(self, line: QLineEdit) -> None:
        """Make `line` the part that is typed in."""
        self.setLineEdit(line)
        self.setCompleter(None)  # it would complete paths to names
        self.refresh()

    def refresh(self) -> None:
        """Read the registry; what stands in the field stays."""
        try:
            self.models, self.problem = registered_models(), ""
        except WsssError as error:
            self.models, self.problem = (), str(error)
        line = self.lineEdit()
        text = line.text() if line is not None else ""
        blocked = [(w, w.blockSignals(True)) for w in (self, line) if w is not None]
        self.clear()
        for model in self.models:
            self.addItem(model.entry.name)
            row = self.count() - 1
            self.setItemData(row, model.entry.purpose, Qt.ItemDataRole.UserRole)
            self.setItemData(row, _tip(model), Qt.ItemDataRole.ToolTipRole)
        self.setCurrentIndex(-1)
        if line is not None:
            line.setText(text)
        for widget, before in blocked:
            widget.blockSignals(before)

    def showPopup(self) -> None:
        """Open the list, as it is now."""
        self.refresh()
        view = self.view()
        if view is not None:
            wanted = view.sizeHintForColumn(0) + 24
            view.setMinimumWidth(max(self.width(), min(wanted, _WIDEST)))
        super().showPopup()


class _WithPurpose(QStyledItemDelegate):
    """Shows what a model is for behind its name."""

    def initStyleOption(self, option: QStyleOptionViewItem | None, index: QModelIndex) -> None:
        """Put the purpose behind the name."""
        super().initStyleOption(option, index)
        purpose = index.data(Qt.ItemDataRole.UserRole)
        if option is not None and purpose:
            option.text = f"{option.text}   {purpose}"


class ModelCard(QDialog):
    """A window with the card of a model.

    Parameters
    ----------
    name
        Of a registered model.
    """

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        from napari_wsss.models.cards import model_card

        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle(f"Model card: {name}")
        self.text = QTextBrowser()
        self.text.setOpenExternalLinks(True)
        try:
            self.text.setMarkdown(model_card(name))
        except WsssError as error:
            self.text.setPlainText(str(error))
        layout = QVBoxLayout(self)
        layout.addWidget(self.text)
        self.resize(680, 600)


def _tip(model: RegisteredModel) -> str:
    """Return what the list says of a model under the mouse."""
    entry = model.entry
    place = "Comes with the package" if model.shipped else entry.url or str(model.file)
    rows = [entry.purpose, entry.terms and f"Terms: {entry.terms}", place]
    return "<p>" + "<br>".join(escape(row) for row in rows if row) + "</p>"
