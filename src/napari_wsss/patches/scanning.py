"""Opening every file of a patch set, in threads (Pillow decodes without the GIL)."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from napari_wsss.errors import DataError
from napari_wsss.jobs import CancelToken, Job, Progress
from napari_wsss.patches.images import read_mask_values, read_size
from napari_wsss.patches.patch_set import PatchSet

__all__ = ["FileFacts", "scan_job"]

_CHUNK = 64
# Rec. 601 luminance above which a pixel is called bright, as for pseudo masks.
_BRIGHT = 200


@dataclass
class FileFacts:
    """What opening a patch showed.

    Attributes
    ----------
    size
        (height, width) in pixels, None if unreadable.
    error
        Why the image or its mask cannot be read.
    digest
        Hash of size and pixels; equal pixels give equal digests.
    bright_share
        Share of bright pixels.
    unlisted
        Pixels per mask value that the class table does not list.
    """

    size: tuple[int, int] | None = None
    error: str | None = None
    digest: bytes | None = None
    bright_share: float | None = None
    unlisted: dict[int, int] = field(default_factory=dict)


def scan_job(patches: PatchSet, deep: bool, cancel: CancelToken) -> Job[list[FileFacts]]:
    """Open every patch: its header, or with `deep` all pixels and its mask.

    Returns
    -------
    list[FileFacts]
        N facts in the order of the patches.
    """
    facts: list[FileFacts] = []
    n = len(patches)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, n, _CHUNK):
            cancel.raise_if_cancelled()
            chunk = range(start, min(start + _CHUNK, n))
            facts += pool.map(lambda i: _facts(patches, i, deep), chunk)
            yield Progress("scan", len(facts), n)
    return facts


def _facts(patches: PatchSet, i: int, deep: bool) -> FileFacts:
    facts = FileFacts()
    try:
        if not deep:
            facts.size = read_size(patches.paths[i])
            return facts
        image = patches.read(i)
        facts.size = (image.shape[0], image.shape[1])
        digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
        digest.update(image.data)
        facts.digest = digest.digest()
        luminance = image @ np.array([0.299, 0.587, 0.114], np.float32)
        facts.bright_share = float((luminance > _BRIGHT).mean())
        mask = patches.masks[i] if patches.masks is not None else None
        if mask is not None and patches.classes.has_values:
            values = read_mask_values(mask)
            if values.shape != facts.size:
                facts.error = (
                    f"{mask}: the mask has {values.shape[1]} x {values.shape[0]} px, its patch "
                    f"{facts.size[1]} x {facts.size[0]} px."
                )
            facts.unlisted = patches.classes.unlisted(values)
    except DataError as error:
        facts.error = str(error)
    return facts
