"""Training in this process, or on several of this machine that are followed from this one.

Several are children of ``torch.distributed.run``, which ends all if one dies. The first of them
reports through a file of JSON lines; this process never joins the group, so a viewer or a
notebook survives whatever happens there. All of them hold the reading end of a pipe and leave
when its other end closes: on a wish to cancel, and when this process dies.
"""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from dask.system import CPU_COUNT

from napari_wsss import errors, jobs
from napari_wsss.environment import computing_environment
from napari_wsss.errors import SettingsError, TrainingError, WsssError
from napari_wsss.jobs import CancelToken, Event, Job, Log
from napari_wsss.models import WsssModel, load_model
from napari_wsss.models.device import choose_device
from napari_wsss.training.group import Group
from napari_wsss.training.loop import history_path

__all__ = ["ERROR_FILE", "EVENTS_FILE", "JOB_FILE", "check_processes", "run_training"]

JOB_FILE, EVENTS_FILE, ERROR_FILE = "job.pickle", "events.jsonl", "error.json"
_LOG_FILE = "log.txt"
#: Seconds between two looks at events, cancel token and child.
_PATIENCE = 0.05
#: Seconds that the processes have to leave by themselves.
_GRACE = 10.0


def check_processes(processes: int, batch_size: int, device: str) -> None:
    """Raise SettingsError if so many processes cannot train together here."""
    if processes < 1:
        raise SettingsError(f"processes = {processes} must be at least 1.")
    if processes == 1:
        return
    if processes > batch_size:
        raise SettingsError(
            f"{processes} processes cannot share batches of {batch_size} patches. Raise "
            "batch_size or start fewer processes."
        )
    if not torch.distributed.is_available():
        raise SettingsError("This build of PyTorch cannot train on several processes.")
    where = choose_device(device)
    if where.type not in ("cpu", "cuda"):
        raise SettingsError(
            f"Several processes train on CPU or CUDA, not on {where.type}. Use --device cpu, or "
            "one process."
        )
    if where.type == "cuda" and processes > torch.cuda.device_count():
        raise SettingsError(
            f"{processes} processes need as many GPUs; there are {torch.cuda.device_count()}."
        )


def run_training(
    training: Callable[..., Job[Any]],
    arguments: dict[str, Any],
    *,
    out: Path,
    processes: int,
    device: str,
    cancel: CancelToken,
) -> Job[WsssModel]:
    """Yield the events of a training, here or in processes that share it; returns the model.

    Parameters
    ----------
    training
        A function of a module, called in each process with `arguments`, its `device`, its
        `group` and `cancel`; the first process writes `out`.
    arguments
        Picklable.
    processes
        How many; see `check_processes`. One is this process.
    device
        As everywhere; on CUDA each process takes a GPU of its own.
    cancel
        Ends all processes at once.

    Raises
    ------
    TrainingError
        If a process dies.
    WsssError
        Of a process, as it was raised there; `CancelledError` if cancelled. The finished
        epochs are kept.
    """
    if processes == 1:
        return (yield from training(**arguments, device=device, group=Group(), cancel=cancel))
    kind = choose_device(device).type
    with tempfile.TemporaryDirectory(prefix="napari-wsss-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Readable by this user only, written and read by the same version of this package.
        (folder / JOB_FILE).write_bytes(pickle.dumps((training, arguments, kind)))
        yield Log(f"Starting {processes} processes")
        child = _start(folder, processes)
        try:
            yield from _follow(child, folder, cancel)
        finally:
            _end(child)
        cancel.raise_if_cancelled("The finished epochs are kept; start it again to go on.")
        _raise_error(child, folder)
    model = load_model(out)
    model.history = json.loads(history_path(out).read_text("utf-8"))
    return model


def _start(folder: Path, processes: int) -> subprocess.Popen:
    threads = max(1, CPU_COUNT // processes)
    environment = {"OMP_NUM_THREADS": str(threads), **computing_environment()}
    if sys.platform == "win32":  # PyTorch is built without libuv there
        environment.setdefault("USE_LIBUV", "0")
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "--monitor-interval", "0.2"),
        *("-m", "napari_wsss.training.worker", str(folder)),
    ]
    with (folder / _LOG_FILE).open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def _follow(child: subprocess.Popen, folder: Path, cancel: CancelToken) -> Iterator[Event]:
    """Yield events as they come, until the child ends or the job is cancelled."""
    path, rest = folder / EVENTS_FILE, b""
    place = 0
    while not cancel.cancelled:
        ended = child.poll() is not None
        if path.exists():
            with path.open("rb") as stream:
                stream.seek(place)
                data = stream.read()
            place += len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                fields = json.loads(line)
                yield getattr(jobs, fields.pop("type"))(**fields)
        if ended:
            return
        time.sleep(_PATIENCE)


def _end(child: subprocess.Popen) -> None:
    """Leave no process behind."""
    assert child.stdin is not None
    child.stdin.close()
    for stop in (lambda: None, child.terminate, child.kill):
        stop()
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue
        return


def _raise_error(child: subprocess.Popen, folder: Path) -> None:
    """Raise the error of the process that failed first, if any."""
    if child.returncode == 0:
        return
    if (folder / ERROR_FILE).is_file():
        found = json.loads((folder / ERROR_FILE).read_text("utf-8"))
        kind = getattr(errors, found["type"], WsssError)
        raise kind(found["message"])
    log = (folder / _LOG_FILE).read_text("utf-8", "replace")
    signal = re.search(r"Signal \d+ \(\w+\)", log)
    lines = [line for line in log.splitlines() if line.strip()]
    said = f" ({signal.group()})" if signal else ". It said:\n" + "\n".join(lines[-25:])
    raise TrainingError(
        f"A training process died, and the others were stopped{said}\nThe finished epochs are "
        "kept; start it again to go on."
    )
