"""Large blocks are taken from the heap again, in whatever thread they are asked for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from napari_wsss.environment import PROCESS_ENVIRONMENT

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc maps large blocks anew"
)

#: What the scripts below begin with.
LIBC = """
import ctypes, resource, sys, threading
from napari_wsss.allocator import keep_heap, prepare_process

c = ctypes.CDLL("libc.so.6")
c.malloc.restype, c.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
c.free.argtypes = [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
"""
#: Prints how many pages fault in while 96 MiB are taken, written and given back, five times.
FAULTS = """
begin = threading.Event()

def use():
    begin.wait()
    for i in range(6):
        if i == 1:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = c.malloc(96 * 2**20)
        c.memset(block, 1, 96 * 2**20)
        c.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=use)  # begun before, as those of a dask worker are
if "early" in sys.argv:
    thread.start()
if "prepared" in sys.argv:
    assert prepare_process()
if "early" not in sys.argv:
    thread.start()
begin.set()
thread.join()
"""
#: The same with aligned blocks, as torch asks for, and a small one taken before each is returned.
ALIGNED = """
c.posix_memalign.argtypes = [ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t]
assert prepare_process()

def take(size):
    block = ctypes.c_void_p()
    assert c.posix_memalign(block, 64, size) == 0
    c.memset(block, 1, size)
    return block

for i in range(6):
    if i == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = take(96 * 2**20)
    take(4096)
    c.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
#: The same with 2.3 GiB in all, of which the first 96 MiB are written: the others take no memory.
EMPTIED = """
assert keep_heap()

for i in range(6):
    if i == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [c.malloc(96 * 2**20) for _ in range(24)]
    c.memset(min(blocks), 1, 96 * 2**20)
    for block in blocks:
        c.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
#: Five times 96 MiB in pages of 4 KiB.
ALL = 5 * 96 * 256


def faults(*words, script=FAULTS, **environment):
    plain = {k: v for k, v in os.environ.items() if k not in PROCESS_ENVIRONMENT}
    done = subprocess.run(
        [sys.executable, "-c", LIBC + script, *words],
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_blocks_are_mapped_anew_without_us():
    assert faults() > 0.9 * ALL


def test_threads_started_later_share_the_heap():
    assert faults("prepared") < 0.1 * ALL


def test_threads_that_run_already_need_the_environment():
    assert faults("prepared", "early") > 0.9 * ALL
    assert faults("prepared", "early", **PROCESS_ENVIRONMENT) < 0.1 * ALL


def test_aligned_blocks_are_used_again_with_the_environment():
    assert faults(script=ALIGNED, **PROCESS_ENVIRONMENT) < 0.1 * ALL


def test_a_heap_to_keep_is_kept_when_all_of_it_was_given_back():
    assert faults(script=EMPTIED) < 0.1 * ALL
