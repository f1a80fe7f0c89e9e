"""How many of the processor's cores jobs may use."""

from __future__ import annotations

from dask.system import CPU_COUNT

from napari_wsss.panels.support.preferences import preferences

__all__ = ["threads_for_jobs"]


def threads_for_jobs() -> int:
    """Return all cores but those that the preferences leave to the viewer, at least one."""
    return max(1, CPU_COUNT - preferences().cores_left)
