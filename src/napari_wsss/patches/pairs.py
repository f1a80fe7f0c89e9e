"""Images and the masks that belong to them: matched by name and checked before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError, listed
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.patches.formats.common import image_files
from napari_wsss.patches.images import read_mask_values, read_rgb

__all__ = ["Pair", "check_pairs_job", "match_pairs", "read_pair"]


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes
    ----------
    key
        Path inside the folder without suffix: the name of the source image.
    image, mask
        The two files.
    """

    key: str
    image: Path
    mask: Path

    @property
    def flat_key(self) -> str:
        """`key` as the beginning of a file name."""
        return self.key.replace("/", "__")


def match_pairs(
    images: str | Path | Sequence[str | Path], masks: str | Path | Sequence[str | Path]
) -> tuple[list[Pair], list[str]]:
    """Match images and masks that are called the same but for the suffix.

    Parameters
    ----------
    images, masks
        Folders (with the same subfolders, if any), or lists of files.

    Returns
    -------
    tuple[list[Pair], list[str]]
        The pairs sorted by name, and what is wrong: partners missing, names that occur
        twice. Masks without an image are no problem if `images` is a list of files.

    Raises
    ------
    DataError
        If a folder does not exist.
    """
    problems: list[str] = []
    by_image, by_mask = _by_key(images, problems), _by_key(masks, problems)
    problems += [f"{by_image[k]}: no mask of this name" for k in by_image if k not in by_mask]
    if isinstance(images, str | Path):
        problems += [f"{by_mask[k]}: no image of this name" for k in by_mask if k not in by_image]
    pairs = [Pair(k, by_image[k], by_mask[k]) for k in sorted(by_image) if k in by_mask]
    counts = Counter(pair.flat_key for pair in pairs)
    problems += [
        f"{p.image}: another image is called alike" for p in pairs if counts[p.flat_key] > 1
    ]
    return pairs, problems


def read_pair(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read a pair.

    Returns
    -------
    tuple[NDArray[np.uint8], NDArray[np.uint8]]
        RGB image, shape (H, W, 3), and mask values, shape (H, W).

    Raises
    ------
    DataError
        If one of the two cannot be read, or their sizes differ.
    """
    image, mask = read_rgb(pair.image), read_mask_values(pair.mask)
    if image.shape[:2] != mask.shape:
        raise DataError(_size_fault(pair, image.shape, mask.shape))
    return image, mask


def check_pairs_job(
    pairs: Sequence[Pair], problems: Sequence[str], classes: ClassTable, cancel: CancelToken
) -> Job[dict[str, dict[int, int]]]:
    """Read every pair once, so that nothing is written for a set that is not usable.

    Yields
    ------
    Event
        Progress of 'check' in pairs.

    Returns
    -------
    dict[str, dict[int, int]]
        Pixels of each mask value that is neither a class nor ignored, by image; images
        without such values are left out.

    Raises
    ------
    DataError
        Listing `problems` and everything that is wrong with any of the files.
    """
    found, unlisted = list(problems), {}
    for done, pair in enumerate(pairs, start=1):
        cancel.raise_if_cancelled()
        try:
            shape = read_rgb(pair.image).shape[:2]
        except DataError as error:
            found.append(str(error))
            shape = None
        try:
            mask = read_mask_values(pair.mask)
        except DataError as error:
            found.append(str(error))
        else:
            if shape not in (None, mask.shape):
                found.append(_size_fault(pair, shape, mask.shape))
            if odd := classes.unlisted(mask):
                unlisted[pair.key] = odd
        yield Progress("check", done, len(pairs))
    if found:
        raise DataError(
            f"{len(found)} of the images and masks are not usable; nothing was written:"
            f"{listed(found)}"
        )
    if not pairs:
        raise DataError("There are no images (PNG, JPEG, TIFF or BMP) to cut patches from.")
    return unlisted


def _size_fault(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> str:
    return (
        f"{pair.mask}: the mask has {mask[1]} x {mask[0]} px, its image {image[1]} x {image[0]} px"
    )


def _by_key(source: str | Path | Sequence[str | Path], problems: list[str]) -> dict[str, Path]:
    if isinstance(source, str | Path):
        folder = Path(source)
        if not folder.is_dir():
            raise DataError(f"There is no folder {folder}.")
        files = [
            (f.relative_to(folder).with_suffix("").as_posix(), f)
            for f in image_files(folder, recursive=True)
        ]
    else:
        files = [(Path(f).stem, Path(f)) for f in source]
    by_key: dict[str, Path] = {}
    for key, file in files:
        if key in by_key:
            problems.append(f"{file}: {by_key[key]} has the same name but for the suffix")
        by_key.setdefault(key, file)
    return by_key
