"""How many of the processor's cores jobs may use."""

from __future__ import annotations

import os

from napari_wsss.panels.support.preferences import preferences

__all__ = ["threads_for_jobs"]


def threads_for_jobs() -> int:
    """Return all cores but those that the preferences leave to the viewer, at least one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) - preferences().cores_left)
