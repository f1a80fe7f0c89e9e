"""One run over a slide: begun or resumed, block by block, sealed at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.inference.block_task import BlockTask, place_of
from napari_wsss.inference.blocks import Block, SlidePlan, nearest_first
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.folder import RunFolder
from napari_wsss.inference.journal import Entry
from napari_wsss.inference.options import RunOptions
from napari_wsss.inference.outputs import Output
from napari_wsss.inference.pipeline import Pipeline
from napari_wsss.inference.record import precision_of_run, run_record
from napari_wsss.inference.result import MODEL_FILE, NOT_COMPUTED, read_run, result_path
from napari_wsss.inference.tiles import Rect
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, Progress, ResultCreated
from napari_wsss.models import WsssModel, save_model, weights_digest
from napari_wsss.models.device import describe_device, keep_threads
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Pyramid, Slide

__all__ = ["slide_job"]

#: What a cancelled run leaves.
_RESUME = "What was finished is kept; start it again to go on."


def slide_job(
    make: Callable[[ClassTable, InferenceSettings], Output],
    slide: Slide,
    model: WsssModel,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    options: RunOptions | None = None,
    *,
    cancel: CancelToken | None = None,
) -> Job[Path]:
    """Yield the events of a run over a slide; returns the path of the result.

    Parameters
    ----------
    make
        Makes what is computed and stored, from class table and settings.
    slide, model, out_dir, settings, cancel
        As in `segment_slide`.
    options
        How the run is carried out; defaults to `RunOptions()`.
    """
    settings = settings or InferenceSettings()
    options = options or RunOptions()
    cancel = cancel or CancelToken()
    output = make(model.classes, settings)
    network = output.network(model)
    keep_threads()
    path = result_path(out_dir, slide.name + output.suffix)
    if options.cluster is None:
        place, here = place_of(options.device, settings.precision), options.device
    else:  # this process computes nothing, and may have no such device
        place = yield from options.cluster.place(options.device, settings.precision, cancel)
        options, here = replace(options, device=place.device), "cpu"
    earlier = {} if options.overwrite else _earlier(path)
    precision = precision_of_run(earlier, settings, place.precision)
    resolved = settings.changed(precision=precision)
    with ThreadPoolExecutor(1, "engine") as pool:  # both take a second
        making = pool.submit(Engine, network, resolved, device=here, cancel=cancel)
        plan = SlidePlan.of(slide, model, settings, options.model_mpp)
        engine = making.result()
    record = run_record(output.kind, slide, model, settings, plan, place.name, precision, earlier)
    if output.depth is not None:  # left out where there is none: records stay what they were
        record["depth"] = output.depth
    with RunFolder(path, record) as folder:
        state = folder.prepare(options.overwrite)
        if state == "finished":
            yield Log(f"{path} is finished already; nothing is to be done")
            return path
        run = _Run(folder, output, plan, model, options, cancel)
        yield from run.events(engine, resumed=state == "begun")
    return path


def _earlier(path: Path) -> dict[str, Any]:
    """Return the record of what is at `path`, empty without one that can be read."""
    try:
        return read_run(path)
    except SlideError:
        return {}


class _Run:
    """The steps of one run, with what they share."""

    def __init__(
        self,
        folder: RunFolder,
        output: Output,
        plan: SlidePlan,
        model: WsssModel,
        options: RunOptions,
        cancel: CancelToken,
    ):
        self.folder, self.output, self.plan = folder, output, plan
        self.model, self.options, self.cancel = model, options, cancel
        self.settings = output.settings
        self.blocks = list(plan.blocks())
        self.done: dict[Rect, Entry] = {}
        self.pyramids: tuple[Pyramid, ...] = ()

    def events(self, engine: Engine, *, resumed: bool) -> Iterator[Event]:
        began = time.perf_counter()
        self._open(resumed)
        yield ResultCreated(self.folder.path)
        pipeline = Pipeline(
            engine, self.plan, self.output, self.pyramids, self.cancel, live=self.options.live
        )
        if resumed:
            yield from self._recall(pipeline)
        todo = [b for b in self.blocks if b.rect not in self.done]
        yield Log(self._announcement(engine, todo))
        yield from self._first_look(pipeline, todo)
        yield from self._blocks(self._stored(pipeline, todo))
        seconds = time.perf_counter() - began
        # Of blocks that an earlier run stored, only the finest level was looked at.
        first = [1 if resumed else filled + 1 for filled in pipeline.filled]
        yield from self._coarser(first)
        self.folder.check_there()
        self.folder.finish(self._summary())
        computed = sum(b.rect.height * b.rect.width for b in todo if b.tissue)
        if computed:
            speed = computed / 1e6 / seconds
            yield Log(
                f"{self.output.stage} of {self.plan.grid.slide.name}: {computed / 1e6:.1f} MP of "
                f"tissue blocks in {seconds:.1f} s, {speed:.2f} MP/s"
            )

    def _open(self, resumed: bool) -> None:
        """Make the pyramids ready to be written: those of the earlier run, or new ones."""
        if resumed:
            self.pyramids = self.output.open(self.folder.path)
            return
        group = self.folder.create()
        self.pyramids = self.output.create(group, self.plan.grid.slide.name, self.plan)
        self.folder.journal.create()

    def _first_look(self, pipeline: Pipeline, todo: Sequence[Block]) -> Iterator[Event]:
        """Show a chunk where somebody looks, who would wait long for a whole block."""
        place = None if self.options.view is None else self.options.view()
        tissue = [b for b in todo if b.tissue]
        if place is None or not tissue or self.options.cluster is not None:
            return
        rect = pipeline.look(next(nearest_first(tissue, lambda: place)), place)
        if rect is not None:
            yield BlockDone(*rect)

    def _stored(self, pipeline: Pipeline, todo: Sequence[Block]) -> Iterator[Entry | Event]:
        """Return the entries of blocks as they are stored, here or by the workers."""
        blocks = nearest_first(todo, self.options.view)
        if self.options.cluster is None:
            return pipeline.run(blocks, self.folder.journal.add)
        work = self.options.cluster.run(self._task(pipeline.engine), blocks, self.cancel)
        return self._noted(work)

    def _noted(self, stored: Iterable[Entry | Event]) -> Iterator[Entry | Event]:
        """Write the journal of blocks that workers stored, which leave that to this process."""
        with closing(_closable(stored)) as stream:
            for entry in stream:
                if isinstance(entry, Entry):
                    self.folder.journal.add(entry)
                yield entry

    def _task(self, engine: Engine) -> BlockTask:
        """Return the work as its workers get it: everything by path."""
        slide = self.plan.grid.slide
        if slide.path is None:
            raise SlideError(
                f"{slide.name} is an array in memory, which workers cannot open. Store it as a "
                "file first, for instance with convert_slide."
            )
        model = self.folder.path / MODEL_FILE
        save_model(self.model, model, overwrite=True)
        return BlockTask(
            kind=self.output.kind,
            slide=slide.path.resolve(),
            mpp=slide.mpp,
            name=slide.name,
            slide_fingerprint=slide.fingerprint,
            model=model.resolve(),
            model_sha256=weights_digest(self.model),
            model_info=self.model.info.model_dump_json(),
            settings=engine.settings.model_dump_json(),
            model_mpp=self.options.model_mpp,
            device=self.options.device,
            result=self.folder.path.resolve(),
            tissue=None if self.plan.tissue is None else self.plan.tissue.packed(),
            depth=self.output.depth,
        )

    def _announcement(self, engine: Engine, todo: list[Block]) -> str:
        height, width = self.plan.shape
        where = describe_device(engine.device, engine.settings.precision)
        if self.options.cluster is not None:
            record, count = self.folder.record, self.options.cluster.size
            workers = "worker" if count == 1 else "workers"
            where = f"{count} {workers} ({record['device']}, {engine.settings.precision})"
        text = (
            f"{self.output.stage} of {self.plan.grid.slide.name}: {width} x {height} px in "
            f"{len(self.blocks)} blocks, {sum(b.tissue for b in self.blocks)} with tissue, on "
            f"{where}"
        )
        if self.done:
            text += f"; {len(self.done)} are done, {len(todo)} left"
        if not engine.exact:
            text += (
                f". This network sees whole tiles (global pooling or group statistics), so fixed "
                f"tiles of {self.settings.tile_px} px are blended"
            )
        return text

    def _recall(self, pipeline: Pipeline) -> Iterator[Event]:
        """Take over the blocks of an earlier run whose pixels are as they were stored."""
        known = self.folder.journal.read() or {}
        mine = {b.rect for b in self.blocks}
        for i, (rect, entry) in enumerate(known.items(), 1):
            self.cancel.raise_if_cancelled(_RESUME)
            if rect in mine and pipeline.is_intact(entry):
                self.done[rect] = entry
                pipeline.recall(rect)
            yield Progress("Checking what is done", i, len(known))

    def _blocks(self, stored: Iterable[Entry | Event]) -> Iterator[Event]:
        self.cancel.raise_if_cancelled(_RESUME)
        with closing(_closable(stored)) as stream:
            for entry in stream:
                if isinstance(entry, Event):
                    yield entry
                    continue
                self.done[entry.rect] = entry
                if entry.unreadable is not None:
                    yield Log(f"Not computed: {entry.unreadable}", "warning")
                yield BlockDone(*entry.rect)
                yield Progress(self.output.stage, len(self.done), len(self.blocks))

    def _coarser(self, first: Sequence[int]) -> Iterator[Event]:
        """Make the coarser levels from number `first` of each pyramid on."""
        for pyramid, method, level in zip(self.pyramids, self.output.methods, first, strict=True):
            for done, total in pyramid.build_steps(method, (NOT_COMPUTED,), level):
                self.cancel.raise_if_cancelled(_RESUME)
                yield Progress("Pyramid", done, total)

    def _summary(self) -> dict[str, Any]:
        # In the order of the grid, so that the order of the work leaves no trace.
        entries = [self.done[b.rect] for b in self.blocks]
        return {
            "shape": list(self.plan.shape),
            "mpp": self.plan.grid.mpp,
            **self.output.summary((e.stats for e in entries if e.unreadable is None), self.plan),
            "blocks": len(self.blocks),
            "skipped_blocks": sum(not b.tissue for b in self.blocks),
            "unreadable_blocks": [
                {**e.rect._asdict(), "error": e.unreadable} for e in entries if e.unreadable
            ],
        }


def _closable(stored: Iterable[Entry | Event]) -> Any:
    """Return a generator, whose threads end when it is closed."""
    yield from stored
