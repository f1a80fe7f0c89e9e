"""A group of widgets that can be folded away."""

from __future__ import annotations

from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QCollapsible

__all__ = ["folding"]

#: Qt's largest height of a widget (QWIDGETSIZE_MAX).
_UNBOUNDED = 2**24 - 1


def folding(title: str, *, folded: bool) -> tuple[QCollapsible, QVBoxLayout]:
    """Return a group with this title, and the layout of its content."""
    group = QCollapsible(title)
    group.setDuration(0)  # animated, it would draw its content many times over
    # napari paints checked buttons in its accent colour; an open group is nothing to warn of.
    group.toggleButton().setStyleSheet(
        "QPushButton { text-align: left; border: none; background: transparent; "
        "font-weight: bold; padding: 2px 0; }"
    )
    outer = group.layout()
    if outer is not None:
        outer.setContentsMargins(0, 0, 0, 0)
    content = QWidget()
    layout = QVBoxLayout(content)
    layout.setContentsMargins(6, 2, 0, 4)
    layout.setSpacing(6)
    group.setContent(content)

    # superqt draws its arrows once, in a colour that one of napari's themes hides.
    for set_icon in (group.setCollapsedIcon, group.setExpandedIcon):
        set_icon(QIcon())

    def name(opened: bool) -> None:
        group.setText(f"{'▾' if opened else '▸'} {title}")

    def grow(opened: bool) -> None:
        # superqt fixes the height when a group opens; what is added later would be squeezed.
        if opened:
            content.setMaximumHeight(_UNBOUNDED)

    group.toggled.connect(name)
    group.toggled.connect(grow)
    name(not folded)
    if folded:
        group.collapse(animate=False)
    else:
        group.expand(animate=False)
    return group, layout
