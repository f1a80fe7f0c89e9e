"""What the encoder can be pretrained on: slides, images and patch sets, all as slides."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from napari_wsss.errors import DataError
from napari_wsss.patches import PatchSet, load_patches
from napari_wsss.patches.images import IMAGE_SUFFIXES, read_rgb
from napari_wsss.slides import Slide, open_slide
from napari_wsss.slides.opening import SLIDE_SUFFIXES

__all__ = ["Source", "TileSource", "find_sources"]

TileSource = Slide | PatchSet | str | os.PathLike[str]

#: Files of a folder that are opened as slides; other images are decoded whole.
_SLIDE_SUFFIXES = SLIDE_SUFFIXES | {".zarr"}
_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})


@dataclass(frozen=True)
class Source:
    """One slide or image that tiles are cut from.

    Attributes
    ----------
    name
        For messages.
    open
        Opens it for a ``with`` block, which closes it unless the caller handed it in; images
        are decoded then.
    patch
        Whether it is a labelled patch, which is at the right µm/px whatever it says.
    white_is_tissue
        Whether white pixels count as tissue, such as fat.
    """

    name: str
    open: Callable[[], AbstractContextManager[Slide]]
    patch: bool = False
    white_is_tissue: bool = False


def find_sources(
    given: TileSource | Iterable[TileSource], most: int, seed: int
) -> tuple[Source, ...]:
    """Return what tiles can be cut from.

    Parameters
    ----------
    given
        One or several of: a `Slide`; a `PatchSet`, of which the training split is used; a
        file; a folder that is a patch set, or that holds slides and images.
    most
        Images of each patch set or folder used at most, chosen by `seed`; every one gives
        a tile.
    seed
        Of the choice.

    Raises
    ------
    DataError
        If there is nothing, or a path holds neither slides nor images.
    """
    single = isinstance(given, Slide | PatchSet | str | os.PathLike)
    items: list[TileSource] = [given] if single else list(given)  # type: ignore[list-item,arg-type]
    if not items:
        raise DataError("Name at least one slide, patch set, or folder of slides or images.")
    rng = np.random.default_rng(seed)
    return tuple(source for item in items for source in _of(item, most, rng))


def _of(item: TileSource, most: int, rng: np.random.Generator) -> Iterator[Source]:
    if isinstance(item, Slide):
        yield Source(item.name, lambda: nullcontext(item))
    elif isinstance(item, PatchSet):
        yield from _patches(item, most, rng)
    else:
        yield from _path(Path(item), most, rng)


def _patches(patches: PatchSet, most: int, rng: np.random.Generator) -> Iterator[Source]:
    train = patches.train()
    if not len(train):
        raise DataError(f"{patches.root} has no patches in its training split.")
    for i in _some(len(train), most, rng):
        path = train.paths[i]
        yield Source(str(path), _image(path), True, train.glass == "tissue")


def _path(path: Path, most: int, rng: np.random.Generator) -> Iterator[Source]:
    suffix = path.suffix.lower()
    if suffix in _SLIDE_SUFFIXES or not path.exists():
        yield Source(str(path), _slide(path))
    elif suffix in _TABLE_SUFFIXES:
        yield from _patches(load_patches(path, split="train"), most, rng)
    elif path.is_file():
        yield Source(str(path), _image(path) if suffix in IMAGE_SUFFIXES else _slide(path))
    else:
        yield from _folder(path, most, rng)


def _folder(folder: Path, most: int, rng: np.random.Generator) -> Iterator[Source]:
    """Yield the patches of a patch set, else what lies directly in the folder."""
    try:
        patches = load_patches(folder, split="train")
    except DataError as error:
        reason = str(error)
    else:
        yield from _patches(patches, most, rng)
        return
    try:
        files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be listed: {error.strerror}.") from error
    slides = [p for p in files if p.suffix.lower() in _SLIDE_SUFFIXES]
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES - _SLIDE_SUFFIXES]
    if not slides and not images:
        raise DataError(f"{folder} holds neither slides nor images, and is no patch set: {reason}")
    yield from (Source(str(p), _slide(p)) for p in slides)
    yield from (Source(str(images[i]), _image(images[i])) for i in _some(len(images), most, rng))


def _some(n: int, most: int, rng: np.random.Generator) -> list[int]:
    """Return all indices below `n`, or `most` of them at random, in order."""
    return sorted(rng.permutation(n)[:most].tolist())


def _slide(path: Path) -> Callable[[], Slide]:
    return lambda: open_slide(path)


def _image(path: Path) -> Callable[[], Slide]:
    return lambda: open_slide(read_rgb(path), name=path.stem)
