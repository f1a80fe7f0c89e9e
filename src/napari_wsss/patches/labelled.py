"""A patch set from patches that were labelled on slides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassInfo, ClassTable
from napari_wsss.errors import DataError, SlideError, listed
from napari_wsss.jobs import CancelToken, Job, Log, Progress, run_job
from napari_wsss.patches.grid import PatchReader
from napari_wsss.patches.label_file import read_labels
from napari_wsss.patches.loading import load_patches
from napari_wsss.patches.output import DatasetWriter
from napari_wsss.patches.patch_set import Glass, PatchSet
from napari_wsss.patches.regions import Grouping, group_patches
from napari_wsss.patches.slide_labels import SlideLabels
from napari_wsss.slides import Slide, open_slide

__all__ = ["on_slide", "on_slide_job"]

_Labels = SlideLabels | str | Path
#: Patches that are decoded together.
_BATCH = 16


@dataclass(frozen=True)
class _Source:
    """Labelled patches of one slide; `given` is the slide if it is open already."""

    labels: SlideLabels
    where: str
    given: Slide | None
    path: Path | None


def on_slide_job(
    labels: _Labels | Sequence[_Labels],
    out: str | Path,
    *,
    slides: Sequence[Slide] = (),
    slides_folder: str | Path | None = None,
    groups: Literal["auto", "slides", "regions"] = "auto",
    glass: Glass = "ignore",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[PatchSet]:
    """Write the labelled patches of slides as a patch set, as a job.

    Patches without a label and those left out are not written. A class that no patch has is
    left out of the set's class table. The set appears in `out` only when it is complete.

    Parameters
    ----------
    labels
        Labels of one or more slides, or their files; size and µm/px of the patches must be
        the same. Classes are told by their names.
    out
        Folder to write; it must not exist, unless `overwrite`.
    slides
        Slides that are open already. The others are opened where they were when they were
        labelled or, if they are not there, in `slides_folder` and beside their labels.
    slides_folder
        Where to look for slides that have moved.
    groups
        What is held out together: whole slides, regions of slides, or by itself slides where
        one can be spared without losing a class, else regions.
    glass
        What white is: 'ignore' for no class, 'tissue' as for fat.
    overwrite
        Replace `out` if it is a patch set that this package wrote.
    cancel
        Stops the job; nothing is left behind.

    Yields
    ------
    Event
        Progress of 'patches', and what is to be known about the set.

    Returns
    -------
    PatchSet
        Loaded from `out`.

    Raises
    ------
    DataError
        If the labels do not fit together, or fewer than two classes are labelled.
    SlideError
        If a slide is not found, has changed since it was labelled, or cannot be read.
    OutputError
        If `out` exists or cannot be written.
    CancelledError
        If `cancel` was set.
    """
    cancel = cancel or CancelToken()
    given = [labels] if isinstance(labels, _Labels) else list(labels)
    sources = [_source(one, slides, slides_folder) for one in given]
    _check_alike(sources)
    classes, unused = _classes(sources)
    if unused:
        yield Log(f"No patch is labelled {', '.join(unused)}: left out of the set.", "warning")
    names = _unique_names(sources)
    grouping = _grouping(sources, names, classes, groups)
    yield Log(_grouping_text(sources, grouping))
    inputs = [path for s in sources if (path := s.path) is not None]
    inputs += [Path(one) for one in given if not isinstance(one, SlideLabels)]
    total, done = len(grouping.groups), 0
    with DatasetWriter(Path(out), classes, overwrite=overwrite, sources=inputs) as writer:
        for name, source in zip(names, sources, strict=True):
            cells = source.labels.labelled
            rows = _rows(source.labels, classes)
            for i, image in _images(source, cells, cancel):
                y, x = source.labels.grid.origin_px(int(cells[i]))
                patch = f"{name}_y{y:05d}_x{x:05d}"
                writer.add(patch, image, None, rows[i], grouping.groups[done], "train")
                done += 1
                yield Progress("patches", done, total)
        writer.finish(_header(sources, names, grouping, glass))
    return load_patches(out)


def on_slide(
    labels: _Labels | Sequence[_Labels],
    out: str | Path,
    *,
    slides: Sequence[Slide] = (),
    slides_folder: str | Path | None = None,
    groups: Literal["auto", "slides", "regions"] = "auto",
    glass: Glass = "ignore",
    overwrite: bool = False,
) -> PatchSet:
    """Write the labelled patches of slides as a patch set; see `on_slide_job`."""
    return run_job(
        on_slide_job(
            labels,
            out,
            slides=slides,
            slides_folder=slides_folder,
            groups=groups,
            glass=glass,
            overwrite=overwrite,
        )
    )


# -- finding the slides -------------------------------------------------------------


def _header(
    sources: Sequence[_Source], names: Sequence[str], grouping: Grouping, glass: Glass
) -> dict[str, Any]:
    """Return what the set says of its patches and of the slides that they are of."""
    grid = sources[0].labels.grid
    return {
        "mpp": grid.mpp,
        "size_px": grid.size_px,
        "stride_px": grid.size_px,
        "glass": glass,
        "groups": "slides" if grouping.region_side is None else "regions",
        "slides": {
            name: {
                "patches": len(source.labels.labelled),
                "fingerprint": source.labels.slide.fingerprint,
            }
            for name, source in zip(names, sources, strict=True)
        },
    }


def _source(given: _Labels, slides: Sequence[Slide], folder: str | Path | None) -> _Source:
    """Find the slide of some labels, without opening what need not be open yet."""
    labels = given if isinstance(given, SlideLabels) else read_labels(given)
    record = labels.slide
    where = record.name if isinstance(given, SlideLabels) else str(given)
    for slide in slides:
        if slide.was(record.fingerprint):
            return _Source(labels, where, slide, None)
    if record.path is None:
        raise SlideError(
            f"{where}: {record.name} was labelled as a layer that is in no file, so its patches "
            "can be cut only where that layer is open."
        )
    places = [record.path]
    if folder is not None:
        places.append(Path(folder) / record.path.name)
    if not isinstance(given, SlideLabels):
        places.append(Path(given).parent / record.path.name)
    found = [path for path in places if path.exists()]
    if not found:
        raise SlideError(
            f"{where}: the slide is no longer there. Looked for:{listed(places)}\nSay in which "
            "folder it is now (--slides, slides_folder)."
        )
    return _Source(labels, where, None, found[0])


def _images(
    source: _Source, cells: NDArray[np.int64], cancel: CancelToken
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (index, pixels) of patches, decoded by two threads, in order."""
    record = source.labels.slide
    with ExitStack() as stack:
        slide = source.given
        if slide is None:
            assert source.path is not None
            slide = stack.enter_context(open_slide(source.path, mpp=record.mpp))
            if not slide.was(record.fingerprint):
                raise SlideError(
                    f"{source.path} has changed since it was labelled ({source.where}). Restore "
                    "the file that was labelled, or label it anew."
                )
        read = PatchReader(slide.with_mpp(record.mpp), source.labels.grid)
        pool = stack.enter_context(ThreadPoolExecutor(2, thread_name_prefix="patches"))
        for start in range(0, len(cells), _BATCH):
            cancel.raise_if_cancelled("Nothing was written.")
            part = cells[start : start + _BATCH].tolist()
            yield from enumerate(pool.map(read, part), start=start)


# -- what the set holds -------------------------------------------------------------


def _check_alike(sources: Sequence[_Source]) -> None:
    if not sources:
        raise DataError("No labels were given.")
    sizes = {(s.labels.grid.size_px, s.labels.grid.mpp) for s in sources}
    if len(sizes) > 1:
        rows = [
            f"{s.where}: {s.labels.grid.size_px} px, {s.labels.grid.mpp:g} µm/px" for s in sources
        ]
        raise DataError(
            f"Patches of one set must have one size and one µm/px, and these differ:{listed(rows)}"
        )
    # By the path, too: labels of earlier versions hold another kind of fingerprint.
    prints = Counter(s.labels.slide.fingerprint for s in sources)
    paths = Counter(s.path.absolute() for s in sources if s.path is not None)
    twice = [
        s.where
        for s in sources
        if prints[s.labels.slide.fingerprint] > 1
        or (s.path is not None and paths[s.path.absolute()] > 1)
    ]
    if twice:
        raise DataError(f"These are labels of the same slide; give one of them:{listed(twice)}")


def _classes(sources: Sequence[_Source]) -> tuple[ClassTable, list[str]]:
    """Return the classes that occur, in order of first mention, and those that do not."""
    infos: dict[str, ClassInfo] = {}
    counts: dict[str, int] = {}
    for source in sources:
        numbers = source.labels.counts().tolist()
        for info, n in zip(source.labels.classes.classes, numbers, strict=True):
            infos.setdefault(info.name, info)
            counts[info.name] = counts.get(info.name, 0) + n
    used = [info for name, info in infos.items() if counts[name]]
    if len(used) < 2:
        seen = f"only {used[0].name!r} is" if used else "none is"
        raise DataError(
            f"A set needs patches of at least two classes; {seen} labelled so far. Label some "
            "patches of another class."
        )
    return ClassTable(tuple(ClassInfo(c.name, c.color) for c in used)), [
        name for name, n in counts.items() if not n
    ]


def _rows(labels: SlideLabels, classes: ClassTable) -> NDArray[np.bool_]:
    """Return (n, K) labels of the labelled patches, in the order of the set's classes."""
    own = labels.labels_of(labels.labelled)
    rows = np.zeros((len(own), len(classes)), bool)
    for k, name in enumerate(labels.classes.names):
        if name in classes.names:
            rows[:, classes.index(name)] = own[:, k]
    return rows


def _unique_names(sources: Sequence[_Source]) -> list[str]:
    """Return a name per slide that can be a part of file names; equal ones are numbered."""
    names: list[str] = []
    for source in sources:
        name = source.labels.slide.name
        same, number = name, 1
        while same in names:
            number += 1
            same = f"{name} ({number})"
        names.append(same)
    return names


def _grouping(
    sources: Sequence[_Source], names: Sequence[str], classes: ClassTable, how: str
) -> Grouping:
    labels = np.concatenate([_rows(s.labels, classes) for s in sources])
    cells = [s.labels.labelled for s in sources]
    slides = [name for name, own in zip(names, cells, strict=True) for _ in own]
    if how == "slides":
        return Grouping(tuple(slides), None)
    rows, columns = (
        np.concatenate(parts)
        for parts in zip(
            *(
                np.divmod(own, s.labels.grid.columns)
                for own, s in zip(cells, sources, strict=True)
            ),
            strict=True,
        )
    )
    return group_patches(slides, rows, columns, labels, by_slide=how == "auto")


def _grouping_text(sources: Sequence[_Source], grouping: Grouping) -> str:
    n = len(set(grouping.groups))
    if grouping.region_side is None:
        return f"{len(grouping.groups)} patches in {n} groups: one per slide."
    side, um = grouping.region_side, grouping.region_side * sources[0].labels.grid.patch_um
    which = "only one slide is labelled" if len(sources) == 1 else "no slide can be spared"
    return (
        f"{len(grouping.groups)} patches in {n} groups: regions of {side} x {side} patches "
        f"({um:.0f} µm), because {which}. What is held out comes from the same slides, so "
        "expect less on others."
    )
