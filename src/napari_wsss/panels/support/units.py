"""The registry of units that napari's layers share, made ready before a layer needs it."""

from __future__ import annotations

import time

__all__ = ["make_units_ready"]

#: How long another thread may take to load it, in seconds.
_PATIENCE_S = 10.0


def make_units_ready() -> None:
    """Load pint's registry of units, or wait until another thread has.

    pint loads it at its first use, without a lock. A layer that napari makes in one thread while
    another thread of napari, which looks after the status bar, uses it for the first time ends
    in ``UndefinedUnitError: 'pixel' is not defined``.
    """
    import pint

    registry = pint.get_application_registry()
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            registry.parse_units("pixel")
            registry.parse_units("micrometer")
            return
        except (pint.UndefinedUnitError, AttributeError):  # half loaded
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
