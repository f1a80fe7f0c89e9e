"""Coarser levels kept up to date while a run goes on, for somebody who looks on."""

from __future__ import annotations

import time
from collections.abc import Sequence

from napari_wsss.inference.outputs import Output
from napari_wsss.inference.result import NOT_COMPUTED
from napari_wsss.inference.tiles import Rect
from napari_wsss.slides import Pyramid

__all__ = ["LiveLevels"]


class LiveLevels:
    """Refreshes coarser levels under blocks that were written, at most a twentieth of the time.

    Parameters
    ----------
    pyramids, output
        As of a `Pipeline`.
    filled
        How many coarser levels of each pyramid are written with the blocks.
    """

    def __init__(self, pyramids: Sequence[Pyramid], output: Output, filled: Sequence[int]):
        self._pyramids = list(zip(pyramids, output.methods, filled, strict=True))
        self._dirty: list[tuple[Rect, bool]] = []
        self._next = 0.0

    def wrote(self, rect: Rect) -> None:
        """Refresh the levels that are not written with the blocks."""
        self._refresh(rect, old=False)

    def recall(self, rect: Rect) -> None:
        """Refresh all coarser levels."""
        self._refresh(rect, old=True)

    def _refresh(self, rect: Rect, *, old: bool) -> None:
        self._dirty.append((rect, old))
        began = time.monotonic()
        if began < self._next:
            return
        for one, old_one in self._dirty:
            for pyramid, method, filled in self._pyramids:
                first = 1 if old_one else filled + 1
                pyramid.update(*one, method, (NOT_COMPUTED,), first=first)
        self._dirty.clear()
        now = time.monotonic()
        self._next = now + 20 * (now - began)
