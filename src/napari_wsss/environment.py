"""Environment variables for processes that compute; libraries read them when they are loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PROCESS_ENVIRONMENT", "computing_environment", "prepare_environment"]

#: ``MALLOC_ARENA_MAX``: glibc gives threads arenas of their own, which cannot hold blocks over
#: 64 MiB, so that in processes that compute in other threads than their first each is mapped
#: anew, whatever `prepare_process` says: the default segmenter took twice as long on large tiles.
#:
#: ``OMP_WAIT_POLICY``: by default threads of OpenMP that wait for one another keep their core
#: busy. Where another program needs one core of two, training took three to four times as long.
PROCESS_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {"MALLOC_ARENA_MAX": "1", "OMP_WAIT_POLICY": "PASSIVE"}
)


def computing_environment() -> dict[str, str]:
    """Return the environment for a child that computes; what the user set is kept."""
    return {**PROCESS_ENVIRONMENT, **os.environ}


def prepare_environment() -> None:
    """Give this process, before it loads torch, and its children `PROCESS_ENVIRONMENT`.

    A variable that the user set is kept.
    """
    for name, value in PROCESS_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
