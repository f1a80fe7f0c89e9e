"""One of several training processes: ``python -m napari_wsss.training.worker FOLDER``.

Started by ``torch.distributed.run``; see `napari_wsss.training.processes`.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import torch

from napari_wsss.errors import WsssError
from napari_wsss.files import write_atomic
from napari_wsss.jobs import CancelToken, Event, Examples
from napari_wsss.training.group import Group
from napari_wsss.training.processes import ERROR_FILE, EVENTS_FILE, JOB_FILE

__all__ = ["main"]

#: How long a process waits for the others. While the first validates alone, the others wait in a
#: collective; torch's own limit (10 minutes with NCCL) would end a run whose validation takes
#: longer. A process that dies is noticed at once without it: ``torch.distributed.run`` ends all.
_TIMEOUT = timedelta(days=1)


def main(folder: Path) -> int:
    """Train as the job file says; returns the exit status."""
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    training, arguments, kind = pickle.loads((folder / JOB_FILE).read_bytes())
    device = kind
    if kind == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=_TIMEOUT)
    job = training(**arguments, device=device, group=Group(rank, size), cancel=CancelToken())
    try:
        with (folder / EVENTS_FILE).open("a", encoding="utf-8") as stream:
            for event in job:
                # Pictures are for a viewer, which trains in its own process.
                if rank == 0 and not isinstance(event, Examples):
                    stream.write(_line(event))
                    stream.flush()
    except WsssError as error:
        found = {"type": type(error).__name__, "message": str(error)}
        write_atomic(folder / ERROR_FILE, json.dumps(found).encode())
        return 1
    torch.distributed.destroy_process_group()
    return 0


def _line(event: Event) -> str:
    return json.dumps({"type": type(event).__name__, **asdict(event)}) + "\n"


def _leave_with_the_parent() -> None:
    """Wait for the end of the pipe that the parent holds, then leave at once.

    Files are written all or nothing, so there is nothing to clean up.
    """
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
