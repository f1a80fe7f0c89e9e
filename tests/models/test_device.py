"""How many threads what is computed is divided among."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from napari_wsss.models.device import keep_threads, one_thread


@pytest.fixture(autouse=True)
def _two_threads():
    before = torch.get_num_threads()
    keep_threads(2)
    yield
    keep_threads(before)


def in_a_new_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(20)


def test_one_thread_is_for_a_while():
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert in_a_new_thread(torch.get_num_threads) == 2


def test_a_thread_that_begins_meanwhile_keeps_the_number_of_the_process():
    inside, leave = threading.Event(), threading.Event()

    def measure():
        with one_thread():
            inside.set()
            assert leave.wait(20)

    def job():
        keep_threads()
        return torch.get_num_threads()

    with ThreadPoolExecutor(2) as pool:
        measuring = pool.submit(measure)
        assert inside.wait(20)
        computing = pool.submit(job)
        assert not computing.done()
        leave.set()
        measuring.result(20)
        assert computing.result(20) == 2


def test_a_number_is_for_threads_that_begin_later_too():
    def job():
        keep_threads(1)
        return torch.get_num_threads()

    assert in_a_new_thread(job) == 1
    assert in_a_new_thread(torch.get_num_threads) == 1
    assert torch.get_num_threads() == 2, "this one began before"
