"""One run over a slide: begun or resumed, block by block, sealed at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from napari_wsss.errors import SlideError
from napari_wsss.inference.blocks import Block, SlidePlan, nearest_first
from napari_wsss.inference.cluster import BlockTask, Cluster
from napari_wsss.inference.engine import Engine
from napari_wsss.inference.folder import MODEL_FILE, RunFolder
from napari_wsss.inference.journal import Entry
from napari_wsss.inference.outputs import Output
from napari_wsss.inference.pipeline import Pipeline
from napari_wsss.inference.record import run_record
from napari_wsss.inference.result import NOT_COMPUTED, result_path
from napari_wsss.inference.tiles import Rect
from napari_wsss.jobs import BlockDone, CancelToken, Event, Job, Log, Progress, ResultCreated
from napari_wsss.models import WsssModel, save_model, weights_digest
from napari_wsss.models.device import describe_device, keep_threads
from napari_wsss.settings import InferenceSettings
from napari_wsss.slides import Pyramid, Slide

__all__ = ["View", "slide_job"]

#: Says where the user looks: (y, x) in pixels of the result, or None.
View = Callable[[], "tuple[float, float] | None"]
#: What a cancelled run leaves.
_RESUME = "What was finished is kept; start it again to go on."


def slide_job(
    make: Callable[..., Output],
    slide: Slide,
    model: WsssModel,
    out_dir: Path,
    settings: InferenceSettings | None = None,
    *,
    model_mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    view: View | None = None,
    live: bool = False,
    cluster: Cluster | None = None,
    cancel: CancelToken | None = None,
) -> Job[Path]:
    """Yield the events of a run over a slide; returns the path of the result.

    Parameters
    ----------
    make
        Makes what is computed and stored, from class table and settings.
    slide, model, out_dir, settings, model_mpp, device, overwrite, view, live, cluster, cancel
        As in `segment_slide`.
    """
    settings = settings or InferenceSettings()
    cancel = cancel or CancelToken()
    output = make(model.classes, settings)
    network = output.network(model)
    keep_threads()
    with ThreadPoolExecutor(1, "engine") as pool:  # both take a second
        making = pool.submit(Engine, network, settings, device=device, cancel=cancel)
        plan = SlidePlan.of(slide, model, settings, model_mpp)
        engine = making.result()
    path = result_path(out_dir, slide.name + output.suffix)
    where = describe_device(engine.device, settings.precision)
    record = run_record(output.kind, slide, model, settings, plan, where)
    if output.depth is not None:  # left out where there is none: records stay what they were
        record["depth"] = output.depth
    with RunFolder(path, record) as folder:
        state = folder.prepare(overwrite)
        if state == "finished":
            yield Log(f"{path} is finished already; nothing is to be done")
            return path
        run = _Run(folder, output, plan, model, settings, model_mpp)
        yield from run.events(state == "begun", engine, device, view, live, cluster, cancel)
    return path


class _Run:
    """The steps of one run, with what they share."""

    def __init__(
        self,
        folder: RunFolder,
        output: Output,
        plan: SlidePlan,
        model: WsssModel,
        settings: InferenceSettings,
        model_mpp: float | None,
    ):
        self.folder, self.output, self.plan = folder, output, plan
        self.model, self.settings, self.model_mpp = model, settings, model_mpp
        self.blocks = list(plan.blocks())
        self.done: dict[Rect, Entry] = {}
        self.pyramids: tuple[Pyramid, ...] = ()

    def events(
        self,
        resumed: bool,
        engine: Engine,
        device: str,
        view: View | None,
        live: bool,
        cluster: Cluster | None,
        cancel: CancelToken,
    ) -> Iterator[Event]:
        began = time.perf_counter()
        name = self.plan.grid.slide.name
        if resumed:
            self.pyramids = self.output.open(self.folder.path)
        else:
            group = self.folder.create()
            self.pyramids = self.output.create(group, name, self.plan)
            self.folder.journal.create()
        yield ResultCreated(self.folder.path)
        pipeline = Pipeline(engine, self.plan, self.output, self.pyramids, cancel, live=live)
        if resumed:
            yield from self._recall(pipeline, cancel)
        todo = [b for b in self.blocks if b.rect not in self.done]
        yield Log(self._announcement(engine, todo))
        computed = sum(b.rect.height * b.rect.width for b in todo if b.tissue)
        yield from self._first_look(pipeline, todo, view)
        entries: Iterable[Entry]
        if cluster is None:
            entries = pipeline.run(nearest_first(todo, view))
        else:
            task = self._task(device)
            entries = cluster.run(task, nearest_first(todo, view), cancel)
        yield from self._blocks(entries, cancel)
        seconds = time.perf_counter() - began
        # Of blocks that an earlier run stored, only the finest level was looked at.
        first = [1 if resumed else filled + 1 for filled in pipeline.filled]
        yield from self._coarser(first, cancel)
        self.folder.check_there()
        self.folder.finish(self._summary())
        if computed:
            speed = computed / 1e6 / seconds
            yield Log(
                f"{self.output.stage} of {name}: {computed / 1e6:.1f} MP of tissue blocks in "
                f"{seconds:.1f} s, {speed:.2f} MP/s"
            )

    def _first_look(
        self, pipeline: Pipeline, todo: Sequence[Block], view: View | None
    ) -> Iterator[Event]:
        """Show a chunk where somebody looks, who would wait long for a whole block."""
        place = None if view is None else view()
        tissue = [b for b in todo if b.tissue]
        if place is None or not tissue:
            return
        rect = pipeline.look(next(nearest_first(tissue, lambda: place)), place)
        if rect is not None:
            yield BlockDone(*rect)

    def _task(self, device: str) -> BlockTask:
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
            settings=self.settings.model_dump_json(),
            model_mpp=self.model_mpp,
            device=device,
            result=self.folder.path.resolve(),
            tissue=None if self.plan.tissue is None else self.plan.tissue.packed(),
            depth=self.output.depth,
        )

    def _announcement(self, engine: Engine, todo: list[Block]) -> str:
        height, width = self.plan.shape
        text = (
            f"{self.output.stage} of {self.plan.grid.slide.name}: {width} x {height} px in "
            f"{len(self.blocks)} blocks, {sum(b.tissue for b in self.blocks)} with tissue, on "
            f"{describe_device(engine.device, self.settings.precision)}"
        )
        if self.done:
            text += f"; {len(self.done)} are done, {len(todo)} left"
        if not engine.exact:
            text += (
                f". This network sees whole tiles (global pooling or group statistics), so fixed "
                f"tiles of {self.settings.tile_px} px are blended"
            )
        return text

    def _recall(self, pipeline: Pipeline, cancel: CancelToken) -> Iterator[Event]:
        """Take over the blocks of an earlier run whose pixels are as they were stored."""
        known = self.folder.journal.read() or {}
        mine = {b.rect for b in self.blocks}
        for i, (rect, entry) in enumerate(known.items(), 1):
            cancel.raise_if_cancelled(_RESUME)
            if rect in mine and pipeline.is_intact(entry):
                self.done[rect] = entry
                pipeline.recall(rect)
            yield Progress("Checking what is done", i, len(known))

    def _blocks(self, entries: Iterable[Entry], cancel: CancelToken) -> Iterator[Event]:
        cancel.raise_if_cancelled(_RESUME)
        with closing(_closable(entries)) as stream:
            for entry in stream:
                self.folder.journal.add(entry)
                self.done[entry.rect] = entry
                if entry.unreadable is not None:
                    yield Log(f"Not computed: {entry.unreadable}", "warning")
                yield BlockDone(*entry.rect)
                yield Progress(self.output.stage, len(self.done), len(self.blocks))

    def _coarser(self, first: Sequence[int], cancel: CancelToken) -> Iterator[Event]:
        """Make the coarser levels from number `first` of each pyramid on."""
        for pyramid, method, level in zip(self.pyramids, self.output.methods, first, strict=True):
            for done, total in pyramid.build_steps(method, (NOT_COMPUTED,), level):
                cancel.raise_if_cancelled(_RESUME)
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


def _closable(entries: Iterable[Entry]) -> Any:
    """Return a generator, whose threads end when it is closed."""
    yield from entries
