"""The panel "Label patches": which tissues occur in which patch of an opened slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel

from napari_wsss.classes import ClassTable
from napari_wsss.errors import WsssError
from napari_wsss.jobs import CancelToken, Job
from napari_wsss.panels.label_board import LabelBoard
from napari_wsss.panels.label_hand import LabelHand
from napari_wsss.panels.label_session import LabelSession, Prepared, prepare_job
from napari_wsss.panels.label_slide import SlideForm
from napari_wsss.panels.label_work import data_set_job, free_folder, suggestions_job
from napari_wsss.panels.support.choosers import PathField
from napari_wsss.panels.support.job_view import JobView
from napari_wsss.panels.support.panel import Panel
from napari_wsss.panels.support.preferences import preferences

if TYPE_CHECKING:
    import napari
    from napari.layers import Layer

    from napari_wsss.patches import PatchSet
    from napari_wsss.patches.suggest import Suggestions
    from napari_wsss.slides import Slide

__all__ = ["LabelPanel"]

#: Classes to begin with; they are there to be renamed.
_FIRST_CLASSES = ClassTable.from_names(["tumour", "stroma", "lymphocytes", "necrosis"])
_How = Literal["random", "uncertain", "different"]
_HOW: dict[str, _How] = {
    "at random": "random",
    "most uncertain": "uncertain",
    "most different": "different",
}


class LabelPanel(Panel):
    """Labels patches of a slide by keyboard, by click and by painting.

    Parameters
    ----------
    viewer
        The viewer.

    Attributes
    ----------
    session
        The slide that is being labelled; None before the start.
    """

    title = "Label patches"
    order = 2

    def __init__(self, viewer: napari.viewer.Viewer) -> None:
        super().__init__(viewer)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.session: LabelSession | None = None
        self.hand: LabelHand | None = None
        #: Slides that are in no file: their patches can be cut from here only.
        self._unfiled: dict[str, Slide] = {}
        self._layer: Layer | None = None  # of the session, or of the one that is prepared
        self._refused = False  # whether the error in view says why a class was not edited
        self._build()
        self.form.chooser.chosen.connect(self._slide_chosen)
        self.state.changed.connect(self._state_changed)
        self._slide_chosen()

    # -- building ---------------------------------------------------------------------

    def _build(self) -> None:
        self.form = SlideForm(self.viewer)
        self.body.addWidget(self.form)
        self.begin = JobView("Start labelling")
        self.body.addWidget(self.begin)
        self.note = QLabel()
        self.note.setWordWrap(True)
        self.note.setVisible(False)
        self.body.addWidget(self.note)
        self.board = LabelBoard()
        self.body.addWidget(self.board)
        self.how = QComboBox()
        self.how.addItems(list(_HOW))
        self.how.setToolTip("Which patch the key N shows next")
        next_form = QFormLayout()
        next_form.addRow("Next patch", self.how)
        self.board.next_box.addLayout(next_form)
        self.look = JobView("Look for patches")
        self.board.next_box.addWidget(self.look)
        self.white = QComboBox()
        self.white.addItems(["glass, no class", "tissue, such as fat"])
        white_form = QFormLayout()
        white_form.addRow("White is", self.white)
        self.make = JobView("Make data set")
        self.board.set_box.addLayout(white_form)
        self.board.set_box.addWidget(self.make)
        places = self.section("Where it is kept", folded=True)
        self.folder = PathField("folder", "Folder for labels and data sets")
        self.folder.path = self.state.folder or preferences().work_folder
        places.addWidget(self.folder)
        self.form.changed.connect(self._update)
        self.how.activated.connect(self._how_chosen)
        self.white.activated.connect(lambda: self.setFocus())
        self.folder.changed.connect(self._folder_changed)
        self.begin.requested.connect(self.start)
        self.begin.runner.finished.connect(self._prepared)
        self.begin.runner.ended.connect(self._update)
        self.look.requested.connect(self._look)
        self.look.runner.finished.connect(self._suggested)
        self.make.requested.connect(self._make)
        self.make.runner.finished.connect(self._made)
        self.board.add_requested.connect(self._add_class)
        buttons = self.board.buttons
        buttons.pressed.connect(self._toggle)
        buttons.renamed.connect(
            lambda i, name: self._edit(lambda s: s.labels.rename_class(i, name))
        )
        buttons.recolored.connect(lambda i, c: self._edit(lambda s: s.labels.recolor_class(i, c)))
        buttons.removed.connect(lambda i: self._edit(lambda s: s.labels.remove_class(i)))
        self.board.command.connect(self._command)
        self.board.painting.connect(self._set_painting)

    # -- the slide --------------------------------------------------------------------

    def _slide_chosen(self, layer: object = None) -> None:
        # Also where it is the same one with pixels of another size: the grid would lie beside it.
        self.end()
        self._update()

    def _update(self, *_: object) -> None:
        self.begin.set_ready(self.form.problem())
        session = self.session
        self.board.setVisible(session is not None)
        same = session is not None and self.form.patch_size == (
            session.grid.size_px,
            session.grid.mpp,
        )
        for widget in (self.begin, self.begin.button):  # errors stand there without the button
            widget.setVisible(not same)
        if session is None:
            self.say("Label patches of a slide: say which tissues occur in each.")
        elif not same:
            self.say("Start again to label patches of this size; what you labelled is kept.")
        else:
            self._say_next(session.labels.counts())
        how = self._how()
        self.look.setVisible(how != "random")
        missing = how == "uncertain" and self.state.classifier is None
        self.look.set_ready(
            "Train a classifier first: only that can be unsure." if missing else None
        )

    def start(self) -> None:
        """Lay the grid over the chosen slide and open its labels."""
        layer = self.form.chooser.layer
        if layer is None or self.begin.runner.running:
            return
        self.end()
        try:
            slide = self.form.slide()
        except WsssError as error:
            self.begin.show_error(error)
            return
        self._layer = layer
        um, mpp = self.form.patch_um.value(), self.form.patch_mpp.value()
        self.begin.run(
            "Look for tissue", lambda cancel: prepare_job(slide, um, mpp, cancel), lane="tissue"
        )

    def _prepared(self, prepared: Prepared) -> None:
        layer = self._layer
        if self._closed or layer is None or layer not in self.viewer.layers:
            prepared.slide.close()
            return
        from napari_wsss.patches import open_in_folder
        from napari_wsss.patches.slide_labels import without_values

        known = self.state.patch_set
        classes = _FIRST_CLASSES if known is None else without_values(known.classes)
        try:
            opened = open_in_folder(self._labels_folder(), prepared.record, prepared.grid, classes)
        except WsssError as error:
            self.begin.show_error(error)
            return
        self.note.setText("\n".join(opened.notes))
        self.note.setVisible(bool(opened.notes))
        if prepared.slide.path is None:
            self._unfiled[prepared.record.fingerprint] = prepared.slide
        self.session = LabelSession(prepared, opened.file)
        self.hand = LabelHand(self.viewer, layer, self.session)
        self.hand.changed.connect(self._show)
        self.hand.failed.connect(self.begin_error)
        self.hand.gone.connect(self.end)
        if self.isVisible():
            self.hand.take()
        self._update()
        self._show()
        self.setFocus()

    def end(self) -> None:
        """Stop labelling the slide; its labels are kept."""
        for work in (self.begin, self.look):
            work.runner.cancel()
        self._layer = None
        hand, self.hand = self.hand, None
        session, self.session = self.session, None
        if hand is not None:
            hand.close()
        if session is not None:
            try:
                session.close()
            except WsssError as error:
                self.begin_error(error)
            self._update()

    def begin_error(self, error: WsssError) -> None:
        """Show an error where it stays, such as a disk that is full."""
        self.begin.setVisible(True)
        self.begin.show_error(error)

    # -- labelling --------------------------------------------------------------------

    def _show(self) -> None:
        if self.session is not None and self.hand is not None:
            if self._refused:  # what the user does next answers it
                self._refused = False
                self.begin.clear()
                self._update()
            counts = self.session.labels.counts()
            self.board.show_session(
                self.session,
                counts.tolist(),
                self.hand.code,
                painting=self.hand.painting,
                further=self.hand.further,
            )
            self._say_next(counts)

    def _say_next(self, counts: NDArray[np.int64]) -> None:
        used = int((counts > 0).sum())
        few = used < 2 or counts[counts > 0].min() < 5
        self.make.set_ready("Label patches of two classes at least." if used < 2 else None)
        self.say(
            "Which tissues are in the framed patch? Press their keys, then N for the next."
            if few
            else "Go on until each class has some 20 patches, then make the data set."
        )

    def _toggle(self, index: int) -> None:
        if self.hand is not None:
            self.hand.toggle(index)

    def _command(self, name: str) -> None:
        if self.hand is not None:
            self.hand.do(name)

    def _set_painting(self, on: bool) -> None:
        if self.hand is not None:
            self.hand.set_painting(on)

    def _edit(self, edit: Callable[[LabelSession], None]) -> None:
        if self.session is None or self.hand is None:
            return
        problem = None
        try:
            edit(self.session)
        except WsssError as error:
            problem = error
        self.hand.classes_changed()
        if problem is not None:
            self.begin_error(problem)
            self._refused = True

    def _add_class(self, name: str) -> None:
        self._edit(lambda session: session.labels.add_class(name))
        self.setFocus()

    # -- the next patch ---------------------------------------------------------------

    def _how(self) -> _How:
        return _HOW[self.how.currentText()]

    def _how_chosen(self) -> None:
        if self.session is not None:
            self.session.suggested = []
        self.setFocus()
        self._update()

    def _look(self) -> None:
        session, how = self.session, self._how()
        if session is None or how == "random":
            return
        make = suggestions_job(session, how, self.state.classifier, preferences().device)
        self._looking_for = session
        self.look.run("Look for patches", make)

    def _suggested(self, found: Suggestions) -> None:
        if self.session is None or self.session is not self._looking_for:
            return
        self.session.features = found.features
        self.session.suggested = found.cells.tolist()
        self.look.say(f"{len(found.cells)} patches in order; N shows the next.")
        if self.hand is not None:
            self.hand.do("next")

    # -- the data set -----------------------------------------------------------------

    def _make(self) -> None:
        session = self.session
        if session is None or self.folder.path is None:
            return
        out = free_folder(self.folder.path, "patches")
        opened = tuple(self._unfiled.values())
        glass: Any = "ignore" if self.white.currentIndex() == 0 else "tissue"

        def make(cancel: CancelToken) -> Job[PatchSet]:
            return data_set_job(session, opened, out, glass, cancel)

        self.make.run("Make data set", make)

    def _made(self, patches: PatchSet) -> None:
        self.make.say(
            f"{len(patches)} patches in {patches.root}. Next: look them over in Data set, or "
            "train a classifier."
        )
        self.state.set(patch_set=patches, folder=self.folder.path)

    # -- events -----------------------------------------------------------------------

    def _state_changed(self, name: str) -> None:
        if name == "folder" and self.session is None and self.state.folder is not None:
            self.folder.path = self.state.folder
        elif name == "classifier":
            self._update()

    def _labels_folder(self) -> Path:
        return (self.folder.path or preferences().work_folder) / "labels"

    def _folder_changed(self) -> None:
        if self.session is not None and self.session.file.path.parent != self._labels_folder():
            self.end()

    def keyPressEvent(self, event: QKeyEvent | None) -> None:
        """Take the keys also where the panel has the focus, not the slide."""
        if event is None or self.hand is None or not self.hand.press(event):
            super().keyPressEvent(event)

    def on_shown(self) -> None:
        """Take the keys."""
        if self.hand is not None:
            self.hand.take()

    def on_hidden(self) -> None:
        """Give the keys back."""
        if self.hand is not None:
            self.hand.let_go()

    def on_close(self) -> None:
        """Keep the labels, and remove the grid."""
        self.end()
        self.make.runner.cancel()
        self.state.changed.disconnect(self._state_changed)
        self.form.chooser.disconnect_viewer()
