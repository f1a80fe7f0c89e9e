"""Windows of equal size that cover an image."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["window_origins", "window_starts"]


def window_starts(length_px: int, size_px: int, stride_px: int) -> list[int]:
    """Return where windows begin along one side, so that they reach its end.

    The last window is moved back inside, so it may overlap its neighbour more than the
    others do.

    Examples
    --------
    >>> window_starts(300, 112, 56)
    [0, 56, 112, 168, 188]
    >>> window_starts(100, 112, 56)
    []
    """
    if length_px < size_px:
        return []
    starts = list(range(0, length_px - size_px + 1, stride_px))
    if starts[-1] != length_px - size_px:
        starts.append(length_px - size_px)
    return starts


def window_origins(
    shape: tuple[int, int], size_px: int, stride_px: int
) -> Iterator[tuple[int, int]]:
    """Yield (y, x) of each window over an image of `shape` (height, width), row by row."""
    columns = window_starts(shape[1], size_px, stride_px)
    for y in window_starts(shape[0], size_px, stride_px):
        for x in columns:
            yield y, x
