"""Threads that read ahead: results and errors arrive, and none keeps a program from ending."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import CancelledError, Future

import pytest

from napari_wsss.inference.reader_pool import ReaderPool
from napari_wsss.inference.reading import Loader
from napari_wsss.jobs import CancelToken

#: A read that never returns, in a program that has nothing more to do.
HANGS = """
import threading
from napari_wsss.inference.reader_pool import ReaderPool

begun = threading.Event()

def read():
    begun.set()
    threading.Event().wait()

pool = ReaderPool(2, "read")
pool.submit(read)
begun.wait()
pool.shutdown()
"""


def test_results_and_errors_reach_whoever_waits():
    pool = ReaderPool(3, "read")
    results = [pool.submit(pow, 2, n) for n in range(50)]
    failing = pool.submit(int, "x")
    assert [r.result(10) for r in results] == [2**n for n in range(50)]
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result(10)
    pool.shutdown()


def test_shutdown_cancels_what_has_not_begun_and_ends_the_threads():
    pool, begun, release = ReaderPool(1, "of this test"), threading.Event(), threading.Event()
    first = pool.submit(lambda: begun.set() or release.wait(20))
    second = pool.submit(pow, 2, 2)
    begun.wait(10)
    pool.shutdown()
    with pytest.raises(CancelledError):
        second.result(10)
    release.set()
    assert first.result(10)
    for thread in threading.enumerate():
        if thread.name.startswith("of this test"):
            thread.join(10)
            assert not thread.is_alive()


def test_a_program_ends_although_a_read_hangs():
    subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=True)


class JustInTime(Future):
    """A read that ends between the end of a wait and the question whether it has."""

    def result(self, timeout=None):
        if timeout is not None:
            self.set_result("block")
            raise TimeoutError
        return super().result()


def test_a_read_that_ends_as_the_wait_for_it_does_is_no_timeout():
    loader = Loader.__new__(Loader)
    loader._cancel = CancelToken()
    assert loader._wait(JustInTime()) == "block"
