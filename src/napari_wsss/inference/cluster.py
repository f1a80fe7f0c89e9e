"""Blocks of a slide on the workers of dask.distributed.

One task is one block (`block_task`); what comes back is a line for the journal, and only this
process writes that.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dask.system import CPU_COUNT

from napari_wsss.environment import computing_environment
from napari_wsss.errors import MissingDependencyError, WsssError
from napari_wsss.inference.block_task import BlockTask, Place, place_of, run_block
from napari_wsss.inference.blocks import Block
from napari_wsss.inference.journal import Entry
from napari_wsss.jobs import CancelToken, Event, Log

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster"]

#: Tasks given out per thread of the workers: one at work, one waiting for it.
_DEEP = 2
#: Seconds between two looks at the cancel token.
_PATIENCE = 0.1
#: How often a task is tried again after its worker died.
_RETRIES = 3


class Cluster:
    """Workers of dask.distributed.

    Parameters
    ----------
    client
        Of a running cluster. All workers must see slides and results under the same paths.

    Raises
    ------
    MissingDependencyError
        If dask.distributed is not installed.

    See Also
    --------
    Cluster.local, Cluster.connect
    """

    def __init__(self, client: Client):
        self.client = client

    @classmethod
    def connect(cls, address: str) -> Self:
        """Connect to a scheduler, such as ``"tcp://node7:8786"``.

        Raises
        ------
        WsssError
            If nothing answers there.
        """
        distributed = _distributed()
        try:
            return cls(distributed.Client(address, timeout="15s"))
        except (OSError, ValueError, TimeoutError) as error:
            raise WsssError(
                f"No dask scheduler answers at {address} ({error}). Start one with 'dask "
                "scheduler' and give the address that it prints."
            ) from error

    @classmethod
    def local(cls, workers: int, threads: int | None = None) -> Self:
        """Start `workers` processes on this machine.

        Parameters
        ----------
        workers
            How many.
        threads
            Of the processor for each; by default they share evenly the cores that this process
            may use, which in a container or a batch job are not all.

        Raises
        ------
        WsssError
            If they do not start.
        """
        distributed = _distributed()
        threads = threads or max(1, CPU_COUNT // workers)
        # Read by the numerical libraries of the workers when they are loaded.
        count = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with _environment({**computing_environment(), **count}):
            try:
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                    memory_limit=0,
                )
            except (RuntimeError, OSError) as error:
                raise WsssError(
                    f"The workers did not start ({error}). A script that starts workers must "
                    "keep what it does under 'if __name__ == \"__main__\":'."
                ) from error
        return cls(distributed.Client(cluster))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; a local one is shut down."""
        cluster = self.client.cluster
        self.client.close()
        if cluster is not None:
            cluster.close()

    @property
    def size(self) -> int:
        """How many workers there are now."""
        with _scheduler_answers():
            return len(self.client.nthreads())

    def place(
        self, device: str, precision: str, cancel: CancelToken
    ) -> Generator[Event, None, Place]:
        """Return where the workers compute; yields events while there is none yet.

        Parameters
        ----------
        device, precision
            As each of them is going to choose them. Where one would take another precision than
            the others, all take float32, so that no result mixes two.
        cancel
            Looked at while no worker is there.

        Raises
        ------
        ModelError
            If a worker has no such device.
        WsssError
            If the scheduler does not answer, or a worker cannot say.
        """
        while True:
            yield from self._wait_for_one(cancel)
            places = self._places(device, precision)
            if places:  # the only worker may have left
                break
        types = {place.device for place in places}
        # Without its threads, which may be another number on each.
        cut = (p.name.split(" (")[0] if p.device == "cpu" else p.name for p in places)
        return Place(
            device=types.pop() if device == "auto" and len(types) == 1 else device,
            name=" + ".join(sorted(set(cut))),
            precision="bf16" if all(p.precision == "bf16" for p in places) else "fp32",
        )

    def _places(self, device: str, precision: str) -> list[Place]:
        """Ask every worker what it is; none if there is none."""
        try:
            return list(self.client.run(place_of, device, precision).values())
        except WsssError:
            raise
        except Exception as error:
            if not self.size:  # it answers, or this says that it does not
                return []
            raise WsssError(
                f"A worker cannot compute ({type(error).__name__}: {error}). Workers need "
                "napari-wsss, in the same version as here."
            ) from error

    def run(
        self, task: BlockTask, blocks: Iterable[Block], cancel: CancelToken
    ) -> Iterator[Entry | Event]:
        """Yield the journal's entry of each block as it is done, in any order.

        Between them come events, which say that it waits for workers where there are none.

        Parameters
        ----------
        task
            What is done to each block.
        blocks
            Drawn as workers become free.
        cancel
            Looked at ten times a second.

        Raises
        ------
        WsssError
            Of a worker, as it was raised there; or if workers keep dying, or the scheduler does
            not answer.
        """
        distributed = _distributed()
        running: set[Any] = set()
        left = iter(blocks)
        all_given = False
        try:
            while True:
                # First, so that what was done before a wish to cancel is not lost.
                for future in [f for f in running if f.done()]:
                    running.discard(future)
                    yield _result(future)
                cancel.raise_if_cancelled()
                if all_given and not running:
                    return
                yield from self._wait_for_one(cancel)
                with _scheduler_answers():
                    room = _DEEP * sum(self.client.nthreads().values()) - len(running)
                given = [self._submitted(task, b) for b in itertools.islice(left, max(0, room))]
                running.update(given)
                # Without room, as the only worker may have left, nothing is known of the rest.
                all_given = all_given or len(given) < room
                if running and not any(f.done() for f in running):
                    _wait_for_any(distributed, running)
        finally:
            with suppress(Exception):  # the error that led here says more
                self.client.cancel(list(running))

    def _submitted(self, task: BlockTask, block: Block) -> Any:
        with _scheduler_answers():
            return self.client.submit(run_block, task, block, pure=False, retries=_RETRIES)

    def _wait_for_one(self, cancel: CancelToken) -> Iterator[Event]:
        """Wait until there is a worker, after saying so."""
        said = False
        while not self.size:
            cancel.raise_if_cancelled()
            if not said:
                yield Log(
                    "No worker is connected to the scheduler yet; waiting for one", "warning"
                )
                said = True
            time.sleep(_PATIENCE)


@contextmanager
def _scheduler_answers() -> Iterator[None]:
    """Raise WsssError for whatever a scheduler that is gone makes of a call."""
    try:
        yield
    except WsssError:
        raise
    except Exception as error:
        raise _gone(error) from error


def _gone(error: Exception) -> WsssError:
    return WsssError(
        f"The dask scheduler no longer answers ({type(error).__name__}: {error}). It was stopped, "
        "or the network is cut. What was finished is kept; start it again to go on."
    )


def _result(future: Any) -> Entry:
    """Return the entry of a task that ended."""
    try:
        value = future.result()
    except CancelledError as error:  # nobody cancels a task that is still waited for
        raise _gone(error) from error
    except Exception as error:
        raise WsssError(
            f"A worker failed, also when its block was tried again: {type(error).__name__}: "
            f"{error}. What was finished is kept; start it again to go on."
        ) from error
    if isinstance(value, WsssError):
        raise value
    return value


def _wait_for_any(distributed: Any, running: set[Any]) -> None:
    """Wait until one task ends, but no longer than it takes to notice a wish to cancel."""
    try:
        distributed.wait(list(running), timeout=_PATIENCE, return_when="FIRST_COMPLETED")
    except (
        TimeoutError,
        CancelledError,
    ):  # cancelled tasks are told from done ones by their result
        return


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise MissingDependencyError(
            "Several workers need dask.distributed, which is not installed. Install it: "
            'pip install "napari-wsss[cluster]"'
        ) from error
    return distributed


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for processes started in this context."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
