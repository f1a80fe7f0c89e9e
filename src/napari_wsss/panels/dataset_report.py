"""What a data set holds and what is wrong with it, as the panel shows it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication, QLabel, QToolButton, QVBoxLayout, QWidget

from napari_wsss.panels.dataset_bars import Bar, CountBars
from napari_wsss.patches import PatchReport, PatchSet, Problem
from napari_wsss.patches.problems import label_problems
from napari_wsss.patches.regions import slide_of_region

__all__ = ["ReportView"]

_MOST_COMBINATIONS, _MOST_LINES = 12, 4
_EDGES = {"error": "#d55e00", "warning": "#e69f00", "info": "#56b4e9"}
_WORDS = {"error": "Must be mended", "warning": "Look at this", "info": "Note"}


class ReportView(QWidget):
    """Counts at once; with the report of all files also sizes and what is wrong with files."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._report: PatchReport | None = None
        self.facts = _label()
        self.classes, self.combinations = CountBars(), CountBars()
        self._class_title = QLabel("<b>Patches with each class</b>")
        self._combination_title = QLabel("<b>Patches with each combination</b>")
        self.more = _label()
        self._problem_labels: list[QLabel] = []
        self._shown: tuple[Problem, ...] = ()
        self._added: tuple[Problem, ...] = ()
        self._root = ""  # of the set; paths are shown below it
        self._problems = QVBoxLayout()
        self._problems.setSpacing(4)
        self.copy = QToolButton()
        self.copy.setText("Copy the report")
        self.copy.setToolTip("Copies the whole report as text, with every file it names")
        self.copy.clicked.connect(self._copy)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for widget in (
            self.facts, self._class_title, self.classes, self._combination_title,
            self.combinations, self.more,
        ):  # fmt: skip
            layout.addWidget(widget)
        layout.addLayout(self._problems)
        layout.addWidget(self.copy, 0, Qt.AlignmentFlag.AlignRight)
        self.show_set(None)

    @property
    def problems(self) -> list[str]:
        """The texts of the problems that are shown."""
        return [label.text() for label in self._problem_labels]

    @property
    def unusable(self) -> bool:
        """Whether something must be mended before the set can be trained on."""
        return any(p.severity == "error" for p in self._shown)

    def show_set(self, patches: PatchSet | None) -> None:
        """Show what is known without opening a file; None shows nothing."""
        self._report, self._added = None, ()
        self.copy.setVisible(False)
        self.setVisible(patches is not None)
        if patches is None:
            self._show_problems([])
            return
        self._root = f"{patches.root}{os.sep}"
        table = patches.classes.classes
        counts = patches.labels.sum(0)
        self.classes.set_bars(
            [Bar(c.name, int(n), (c.color,)) for c, n in zip(table, counts, strict=True)]
        )
        rows, numbers = np.unique(patches.labels, axis=0, return_counts=True)
        combinations = []
        for at in np.argsort(-numbers, kind="stable"):
            infos = [table[k] for k in np.flatnonzero(rows[at])]
            name = " + ".join(info.name for info in infos) or "no class"
            colors = tuple(info.color for info in infos)
            combinations.append(Bar(name, int(numbers[at]), colors))
        self.combinations.set_bars(combinations[:_MOST_COMBINATIONS])
        left = len(combinations) - _MOST_COMBINATIONS
        _show(self.more, f"and {left} rarer combinations" if left > 0 else "")
        _show(self.facts, _facts(patches))
        self._show_problems(label_problems(patches))

    def show_report(self, report: PatchReport) -> None:
        """Add what opening every file showed."""
        self._report = report
        sizes = ", ".join(f"{size} px ({n:,})" for size, n in list(report.sizes_px.items())[:4])
        rest = f", and {len(report.sizes_px) - 4} more" if len(report.sizes_px) > 4 else ""
        _show(self.facts, f"{self.facts.text()}<br>Sizes: {sizes or 'unknown'}{rest}")
        self._show_problems([*report.problems, *self._added])
        self.copy.setVisible(True)

    def add_problems(self, problems: Sequence[Problem]) -> None:
        """Show what was found besides, in place of what was found so before."""
        kept = [p for p in self._shown if p not in self._added]
        self._added = tuple(problems)
        self._show_problems([*kept, *problems])

    def _show_problems(self, problems: Sequence[Problem]) -> None:
        for old in self._problem_labels:
            self._problems.removeWidget(old)
            old.setParent(None)
            old.deleteLater()
        self._problem_labels, self._shown = [], tuple(problems)
        for problem in sorted(problems, key=lambda p: list(_EDGES).index(p.severity)):
            label = _label()
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setObjectName("problem")
            label.setStyleSheet(
                f"QLabel#problem {{ border-left: 3px solid {_EDGES[problem.severity]}; "
                "padding: 2px 4px; }"
            )
            text = problem.message.replace(self._root, "")
            label.setText(f"{_WORDS[problem.severity]}: {_shortened(text)}")
            self._problems.addWidget(label)
            self._problem_labels.append(label)

    def _copy(self) -> None:
        clipboard = QApplication.clipboard()
        if self._report is not None and clipboard is not None:
            all_of_it = replace(self._report, problems=(*self._report.problems, *self._added))
            clipboard.setText(all_of_it.to_text())


def _facts(patches: PatchSet) -> str:
    mpp = "µm/px unknown" if patches.mpp is None else f"{patches.mpp:g} µm/px"
    parts = [
        f"<b>{len(patches):,} patches</b> of {_origin(patches.groups)}, {mpp}",
        f"{int(patches.single_label.sum()):,} with a single class",
    ]
    splits = Counter(patches.split)
    if len(splits) > 1:
        parts.append(", ".join(f"{name} {n:,}" for name, n in splits.items()))
    if patches.masks is not None:
        parts.append("with true masks to measure against")
    return "<br>".join(parts)


def _origin(groups: Sequence[str]) -> str:
    """Return what patches are of: images or, where slides are divided, those and the regions."""
    unique = set(groups)
    slides = {slide_of_region(group) for group in unique}
    if None in slides:
        return _count(len(unique), "image")
    return f"{_count(len(slides), 'slide')} ({_count(len(unique), 'region')})"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _shortened(text: str) -> str:
    """Return the first lines; the whole is in the text that can be copied."""
    lines = text.splitlines()
    if len(lines) <= _MOST_LINES:
        return text
    shown = "\n".join(lines[:_MOST_LINES])
    return f"{shown}\n  … {len(lines) - _MOST_LINES} more lines: copy the report to see them"


def _label() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _show(label: QLabel, text: str) -> None:
    label.setText(text)
    label.setVisible(bool(text))
