"""How glibc hands out memory to large tensors, which decides the speed of a network on a CPU."""

from __future__ import annotations

import ctypes
import functools
import platform

__all__ = ["keep_heap", "prepare_process"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LIMIT = 2**31 - 1
#: Of `_M_TRIM_THRESHOLD`.
_NEVER = -1


@functools.cache
def prepare_process() -> bool:
    """Stop glibc from mapping every large tensor anew; True if it applied.

    By default glibc serves each block over 32 MiB by a fresh ``mmap`` whose pages fault
    in one by one; keeping such blocks on the heap makes large tiles 1.2 to 2.4 times
    faster. Threads that are started later share that heap; those that run already need
    `napari_wsss.environment.PROCESS_ENVIRONMENT`, and so do aligned blocks to be used again.
    Other platforms have no such setting and need none.
    """
    return _set({_M_MMAP_THRESHOLD: _LIMIT, _M_TRIM_THRESHOLD: _LIMIT, _M_ARENA_MAX: 1})


@functools.cache
def keep_heap() -> bool:
    """Prepare the process and let its heap never shrink; True if it applied.

    For what needs more than 2 GiB at a time, the largest limit that can be set: all of it would
    be given back after every tile and fault in again for the next. Slides in blocks of 4096 px
    took up to 1.7 times as long.
    """
    return prepare_process() and _set({_M_TRIM_THRESHOLD: _NEVER})


def _set(values: dict[int, int]) -> bool:
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(bool(mallopt(name, value)) for name, value in values.items())
