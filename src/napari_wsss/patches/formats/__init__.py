"""The layouts of patch sets on disk: one module each, with `recognise` and `load`."""

from __future__ import annotations

from napari_wsss.patches.formats import folders, named, own, table

__all__ = ["folders", "named", "own", "table"]
