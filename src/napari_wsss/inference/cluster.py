"""Blocks of a slide on the workers of dask.distributed.

One task is one block. A worker loads model and slide once, by path and checksum, reads,
computes, and stores the block's chunks, which no other block shares; what comes back is a line
for the journal, and only this process writes that. A task can be run twice without harm.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dask.system import CPU_COUNT

from napari_wsss.environment import computing_environment
from napari_wsss.errors import MissingDependencyError, ModelError, SlideError, WsssError
from napari_wsss.inference.blocks import Block, SlidePlan
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.journal import Entry
from napari_wsss.inference.outputs import MapsOutput, Output, SegmentationOutput
from napari_wsss.inference.pipeline import Pipeline
from napari_wsss.jobs import CancelToken
from napari_wsss.models import load_model, weights_digest
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import PackedTissue, open_slide

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Cluster"]

#: Tasks given out per thread of the workers: one at work, one waiting for it.
_DEEP = 2
_LOADING = threading.Lock()
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

    def run(
        self, task: BlockTask, blocks: Iterable[Block], cancel: CancelToken
    ) -> Iterator[Entry]:
        """Yield the journal's entry of each block as it is done, in any order.

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
            Of a worker, as it was raised there; or if workers keep dying.
        """
        distributed = _distributed()
        running: set[Any] = set()
        left = iter(blocks)
        try:
            while True:
                room = _DEEP * max(1, sum(self.client.nthreads().values())) - len(running)
                for block in (b for _, b in zip(range(room), left, strict=False)):
                    running.add(
                        self.client.submit(run_block, task, block, pure=False, retries=_RETRIES)
                    )
                if not running:
                    return
                cancel.raise_if_cancelled()
                for future in [f for f in running if f.done()]:
                    running.discard(future)
                    yield _result(future)
                if running and not any(f.done() for f in running):
                    _wait_for_any(distributed, running)
        finally:
            self.client.cancel(list(running))


@dataclass(frozen=True)
class BlockTask:
    """What a worker needs to know to compute any block of a run.

    Attributes
    ----------
    kind
        Of output.
    slide
        An opened slide file; it travels as its path and is opened anew.
    slide_fingerprint
        Of the slide, so that a worker does not work on another file of that path.
    model
        Path of the checkpoint, and `model_sha256` of its weights.
    settings
        As JSON.
    result
        Folder of the result, its arrays created.
    depth
        Of class maps; None for what the model says by itself.
    tissue
        Where tissue is, which takes longer to find than to send; None if all counts as tissue.
    """

    kind: str
    slide: Path
    mpp: float | None
    name: str
    slide_fingerprint: str
    model: Path
    model_sha256: str
    settings: str
    model_mpp: float | None
    device: str
    result: Path
    depth: int | None = None
    tissue: PackedTissue | None = None


def run_block(task: BlockTask, block: Block) -> Entry | WsssError:
    """Compute and store one block on a worker; errors of ours come back as values.

    They would be the same wherever they are tried again, unlike those of a machine.
    """
    try:
        with _LOADING:  # threads of one worker share what the first of them loads
            pipeline = _pipeline(task)
        return pipeline.run_one(block)
    except WsssError as error:
        return error


@functools.lru_cache(maxsize=1)
def _pipeline(task: BlockTask) -> Pipeline:
    """Return what computes blocks of `task`, made once per worker."""
    slide = open_slide(task.slide, mpp=task.mpp, name=task.name)
    if slide.fingerprint != task.slide_fingerprint:
        raise SlideError(
            f"{task.slide} is another file on a worker than where the run was started. All "
            "workers must see the same files under the same paths."
        )
    model = load_model(task.model)
    if weights_digest(model) != task.model_sha256:
        raise ModelError(f"{task.model} holds another model than that of this run.")
    settings = InferenceSettings.model_validate_json(task.settings)
    tissue = None if task.tissue is None else task.tissue.unpacked()
    plan = SlidePlan.of(slide, model, settings, task.model_mpp, tissue)
    output: Output
    if task.kind == MapsOutput.kind:
        output = MapsOutput(model.classes, settings, task.depth)
    else:
        output = SegmentationOutput(model.classes, settings)
    engine = Engine(output.network(model), settings, device=task.device)
    return Pipeline(engine, plan, output, output.open(task.result))


def _result(future: Any) -> Entry:
    """Return the entry of a task that ended."""
    try:
        value = future.result()
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
        distributed.wait(list(running), timeout=0.1, return_when="FIRST_COMPLETED")
    except TimeoutError:
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
