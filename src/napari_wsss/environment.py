"""Environment variables for processes that compute; libraries read them when they are loaded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["PROCESS_ENVIRONMENT", "computing_environment", "prepare_environment"]

#: A list ``name=value:name=value`` for the C library.
_TUNABLES = "GLIBC_TUNABLES"

#: ``MALLOC_ARENA_MAX``: glibc gives threads arenas of their own, which cannot hold blocks over
#: 64 MiB, so that in processes that compute in other threads than their first each is mapped
#: anew, whatever `prepare_process` says: the default segmenter took twice as long on large tiles.
#:
#: ``OMP_WAIT_POLICY``: by default threads of OpenMP that wait for one another keep their core
#: busy. Where another program needs one core of two, training took three to four times as long.
#:
#: ``GLIBC_TUNABLES``: torch asks for aligned blocks, of which glibc cuts off a few bytes. Those
#: go into the cache of their thread and never join their neighbours again, so that a block that
#: was given back is a little too small for the next request of the same size. Without the cache
#: the default segmenter needs a quarter less memory on large tiles and is as quick.
PROCESS_ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "MALLOC_ARENA_MAX": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        _TUNABLES: "glibc.malloc.tcache_count=0",
    }
)


def computing_environment() -> dict[str, str]:
    """Return the environment for a child that computes; what the user set is kept."""
    environment = {**PROCESS_ENVIRONMENT, **os.environ}
    environment[_TUNABLES] = _joined(PROCESS_ENVIRONMENT[_TUNABLES], os.environ.get(_TUNABLES))
    return environment


def prepare_environment() -> None:
    """Give this process, before it loads torch, and its children `PROCESS_ENVIRONMENT`.

    A variable that the user set is kept. What glibc reads before the first line of a program,
    which are its tunables, reaches the children only.
    """
    os.environ.update(computing_environment())


def _joined(ours: str, users: str | None) -> str:
    """Return the tunables of the user, and `ours` unless they set it."""
    if not users:
        return ours
    name = ours.partition("=")[0]
    known = [tunable.partition("=")[0] for tunable in users.split(":")]
    return users if name in known else f"{users}:{ours}"
