"""The process beside the viewer's: its jobs come to the same ends as others, and so does it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("qtpy.QtWidgets")

from napari_wsss.errors import CancelledError, DataError, WsssError
from napari_wsss.jobs import CancelToken, Job, Log, Progress, run_job
from napari_wsss.panels.support import helper as helper_module
from napari_wsss.panels.support.helper import apart


def counting(n: int, pause: float = 0.0, *, cancel: CancelToken) -> Job[int]:
    for i in range(n):
        cancel.raise_if_cancelled()
        time.sleep(pause)
        yield Progress("Counting", i + 1, n)
    return os.getpid()


def in_one_go(folder: Path, seconds: float, *, cancel: CancelToken) -> Job[None]:
    yield Progress("Begins", 0, 1)
    time.sleep(seconds)
    (folder / "stopped").touch()
    cancel.raise_if_cancelled()


def listing(folder: Path, *, cancel: CancelToken) -> Job[list[str]]:
    yield Progress("Looking", 0, 1)
    return [p.name for p in folder.iterdir()]


def failing(error: Exception, *, cancel: CancelToken) -> Job[None]:
    yield Progress("About to fail", 0, 1)
    raise error


class Unpicklable(Exception):
    def __reduce__(self):
        raise TypeError("not this one")


def raising(*, cancel: CancelToken) -> Job[None]:
    yield Progress("About to fail", 0, 1)
    raise Unpicklable("but its words arrive")


def unpicklable_result(*, cancel: CancelToken) -> Job[object]:
    yield Progress("About to return", 0, 1)
    return lambda: None


def looking(*, view, cancel: CancelToken) -> Job[tuple]:
    while view() != (3, 4):
        cancel.raise_if_cancelled()
        time.sleep(0.01)
        yield Progress("Looking", 0, 1)
    return view()


def loaded(name: str, *, cancel: CancelToken) -> Job[bool]:
    yield Progress("Looking", 0, 1)
    return name in sys.modules


def threads(*, cancel: CancelToken) -> Job[int]:
    import torch

    yield Progress("Looking", 0, 1)
    return torch.get_num_threads()


def printing(*, cancel: CancelToken) -> Job[str]:
    print("a library says hello")
    os.write(1, b"and one in C")
    yield Progress("Printing", 1, 1)
    return sys.stdin.read()


def dying(*, cancel: CancelToken) -> Job[None]:
    yield Progress("About to die", 0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def run(function, *arguments, cancel=None, on_event=None, **options):
    job = apart(function, *arguments, cancel=cancel or CancelToken(), compute=False, **options)
    return run_job(job, on_event)


def test_events_and_the_result_arrive_in_order():
    events = []
    run(counting, 50, on_event=events.append)
    assert events == [Progress("Counting", i + 1, 50) for i in range(50)]


@pytest.mark.parametrize(
    "error", [DataError("no patches"), KeyError("a bug"), MemoryError(), OSError(28, "full")],
    ids=repr,
)  # fmt: skip
def test_errors_arrive_as_they_are(error):
    with pytest.raises(type(error)) as found:
        run(failing, error)
    assert str(found.value) == str(error)


def test_a_lack_of_gpu_memory_is_no_bare_runtime_error():
    with pytest.raises(WsssError, match="CUDA out of memory"):
        run(failing, RuntimeError("CUDA out of memory"))


def test_an_error_that_cannot_be_sent_arrives_in_words():
    with pytest.raises(WsssError, match="but its words arrive"):
        run(raising)


def test_a_result_that_cannot_be_sent_is_an_error():
    with pytest.raises((AttributeError, TypeError, pickle.PicklingError, WsssError)):
        run(unpicklable_result)


def test_cancelling_arrives_at_once():
    token = CancelToken()
    began = []

    def cancel(event):
        if event.done == 3:
            began.append(time.monotonic())
            token.cancel()

    with pytest.raises(CancelledError):
        run(counting, 10_000, 0.002, cancel=token, on_event=cancel)
    assert time.monotonic() - began[0] < 1


def test_a_long_step_holds_nobody_up_but_the_next_job(tmp_path):
    """A layer of a network cannot be interrupted; the panel answers, and files stay consistent."""
    token = CancelToken()
    began = []

    def cancel(_):
        began.append(time.monotonic())
        token.cancel()

    with pytest.raises(CancelledError):
        run(in_one_go, tmp_path, 2.0, cancel=token, on_event=cancel, leave=lambda _: True)
    assert time.monotonic() - began[0] < 1
    assert not list(tmp_path.iterdir()), "it is still at it"
    told = []
    assert run(listing, tmp_path, on_event=told.append) == ["stopped"]
    assert told[0] == Log("Begins when the work that was stopped has ended")
    told.clear()
    run(listing, tmp_path, on_event=told.append)
    assert told == [Progress("Looking", 0, 1)]


def test_a_job_that_may_not_be_left_is_waited_for(tmp_path):
    token = CancelToken()
    with pytest.raises(CancelledError):
        run(in_one_go, tmp_path, 1.0, cancel=token, on_event=lambda _: token.cancel())
    assert [p.name for p in tmp_path.iterdir()] == ["stopped"]


def test_who_waits_for_a_job_that_stops_can_be_cancelled(tmp_path):
    token, leave = CancelToken(), {"leave": lambda _: True}
    with pytest.raises(CancelledError):
        run(in_one_go, tmp_path, 2.0, cancel=token, on_event=lambda _: token.cancel(), **leave)
    other = CancelToken()
    with pytest.raises(CancelledError):
        run(listing, tmp_path, cancel=other, on_event=lambda _: other.cancel())
    assert not list(tmp_path.iterdir()), "its end was not waited for"
    assert run(listing, tmp_path) == ["stopped"]


def test_a_job_that_is_closed_is_cancelled(helper_in_a_thread):
    job = apart(counting, 10_000, 0.002, cancel=CancelToken(), compute=False)
    next(job)
    job.close()
    assert not helper_in_a_thread._waiting
    # The next one is served at once.
    assert run(counting, 1) == os.getpid()


def test_the_latest_view_is_known_there():
    places = iter([(1, 2), (1, 2), None, (3, 4)])
    last = [None]

    def view():
        last[0] = next(places, last[0])
        return last[0]

    assert run(looking, view=view) == (3, 4)


def test_cores_are_left_to_the_viewer(monkeypatch):
    from napari_wsss.panels.support import cores
    from napari_wsss.panels.support.preferences import Preferences

    monkeypatch.setattr(cores, "preferences", lambda: Preferences(cores_left=10_000))
    assert run_job(apart(threads, cancel=CancelToken())) == 1


def test_without_a_process_jobs_run_here(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no processes allowed")

    monkeypatch.undo()
    monkeypatch.setattr(helper_module, "_helper", None)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert run(counting, 2) == os.getpid()


@pytest.mark.usefixtures("helper_process")
def test_a_process_of_its_own():
    pid = run(counting, 2)
    assert pid != os.getpid()
    assert run(counting, 2) == pid, "it is used again"
    assert not run(loaded, "napari"), "it draws nothing"
    assert run(printing) == "", "nothing gets between the answers, and nothing is read"
    if hasattr(os, "getpriority"):
        here = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, pid) > here
    token = CancelToken()
    with pytest.raises(CancelledError):
        run(counting, 10_000, 0.002, cancel=token, on_event=lambda _: token.cancel())


@pytest.mark.skipif(sys.platform == "win32", reason="signals are another thing there")
@pytest.mark.usefixtures("helper_process")
def test_a_process_that_is_killed_is_told_and_replaced():
    first = run(counting, 1)
    with pytest.raises(WsssError, match="no memory left"):
        run(dying)
    assert run(counting, 1) != first


@pytest.mark.skipif(sys.platform == "win32", reason="asks for processes as POSIX does")
def test_it_ends_with_the_viewer():
    """Also if that is killed, in the middle of a job."""
    code = (
        "import os, signal\n"
        "from napari_wsss.jobs import CancelToken\n"
        "from napari_wsss.panels.support.helper import start\n"
        "helper = start()\n"
        "print(helper._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False)
    pid = int(done.stdout)
    end = time.monotonic() + 15
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:  # one that nobody waited for is no more
        return file.read().rpartition(")")[2].split()[0] != "Z"
