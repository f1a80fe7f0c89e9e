"""Pseudo masks of a patch set, from a classifier's maps or a segmenter of an earlier round."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_wsss.cams.maps import check_method
from napari_wsss.cams.masks import MaskNetwork, PatchMasks
from napari_wsss.cams.store import (
    ENCODER,
    GLASS_IS_CERTAIN,
    RECORD,
    PseudoMasks,
    PseudoMaskWriter,
    read_record,
    write_record,
)
from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError, ModelError, OutputError, listed
from napari_wsss.files import output_error
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.models import Classifier, Segmenter
from napari_wsss.models.base import check_resolution
from napari_wsss.models.device import choose_device, describe_device
from napari_wsss.models.weights import write_encoder_weights
from napari_wsss.patches import PatchSet
from napari_wsss.patches.overlaps import Overlaps, overlaps_said
from napari_wsss.settings import PseudoMaskSettings
from napari_wsss.slides import glass_mask

__all__ = ["generate_pseudo_masks", "pseudo_mask_job"]

#: Threads that read and write patches (decoding and compressing release the interpreter).
_THREADS = 3


def generate_pseudo_masks(
    patches: PatchSet,
    model: Classifier | Segmenter,
    out: str | Path,
    settings: PseudoMaskSettings | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> PseudoMasks:
    """Turn the classifier's maps into one mask per depth for every patch.

    Han et al. 2022, section 3.2: the maps of every depth at patch size, restricted to the
    classes of the patch's label, arg-max. A patch with one label has a constant mask and
    is not passed through the network. White pixels become 255 where glass is no tissue.

    A segmenter that was trained on such masks makes those of a second round: its
    probabilities, restricted in the same way, give one mask.

    Parameters
    ----------
    patches
        Patches (H, W, 3) with labels (N, K). Their masks, if any, are not read.
    model
        Classifier, or segmenter of an earlier round, with the same classes in the same order.
    out
        Folder to write; an unfinished one of the same inputs is continued.
    settings
        Defaults to `PseudoMaskSettings()`.
    device, overwrite, on_event, cancel
        As in `train_classifier`.

    Returns
    -------
    PseudoMasks
        Masks (D, H, W) of class indices and the agreement of the depths.

    Raises
    ------
    ModelError
        If the model has other classes than the patches, or no maps by this method.
    DataError, OutputError, CancelledError
        As they say.
    """
    job = pseudo_mask_job(
        patches,
        model,
        Path(out),
        settings,
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def pseudo_mask_job(
    patches: PatchSet,
    model: Classifier | Segmenter,
    out: Path,
    settings: PseudoMaskSettings | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[PseudoMasks]:
    """Yield the events of `generate_pseudo_masks`, which documents the parameters."""
    settings = (settings or PseudoMaskSettings()).resolved(model.info.architecture)
    cancel = cancel or CancelToken()
    _check_fits(patches, model, settings)
    glass = patches.glass if settings.glass == "auto" else settings.glass
    depths = 1 if isinstance(model, Segmenter) or settings.one_map else len(model.stages)
    mark = _fingerprint(patches, model, settings, glass)
    _prepare_folder(out, mark, overwrite)
    record = {
        "complete": False,
        "fingerprint": mark,
        "depths": depths,
        model.info.kind: model.info.model_dump(mode="json"),
        "settings": {**settings.model_dump(mode="json"), "glass": glass},
        GLASS_IS_CERTAIN: True,
    }
    write_record(out, record)
    patches.classes.with_index_values().write(out / "classes.toml")
    write_encoder_weights(model.encoder.net, out / ENCODER)
    writer = PseudoMaskWriter(out, patches.classes, depths)
    where = choose_device(device)
    single = patches.single_label
    yield Log(
        f"Pseudo masks of {len(patches)} patches ({int(single.sum())} with one label need no "
        f"network) on {describe_device(where, settings.precision)}"
    )
    todo = [i for i in range(len(patches)) if not writer.has(patches.names[i])]
    needed = not single[todo].all()
    network = MaskNetwork(model, settings, where, cancel) if needed else None
    overlaps = Overlaps(patches) if needed and settings.overlaps else None
    if overlaps is not None:
        yield from overlaps_said(overlaps)
    making = _Making(patches, settings, glass, depths, writer, network, overlaps)
    yield from making.events(todo, cancel)
    write_record(out, {**record, "complete": True, "patches": len(patches)})
    return PseudoMasks(out)


@dataclass(frozen=True)
class _Making:
    """The masks of a patch set being made; `network` is None where all have one label."""

    patches: PatchSet
    settings: PseudoMaskSettings
    glass: str
    depths: int
    writer: PseudoMaskWriter
    network: MaskNetwork | None
    overlaps: Overlaps | None

    def events(self, todo: list[int], cancel: CancelToken) -> Iterator[Progress]:
        """Make the masks of these patches."""
        patches = self.patches
        done = len(patches) - len(todo)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="patches") as pool:
            # The next batch is read, and the last one written, while the network runs.
            batches = deque(_batches(todo, patches.labels, self.settings.batch_size))
            coming = [pool.submit(patches.read, i) for i in (batches[0] if batches else ())]
            writing: list[Future[None]] = []
            while batches:
                indices = batches.popleft()
                images = [future.result() for future in coming]
                coming = [pool.submit(patches.read, i) for i in (batches[0] if batches else ())]
                cancel.raise_if_cancelled()
                masks = self._computed(indices, images)
                done += _written(writing)
                if writing:
                    yield Progress("Pseudo masks", done, len(patches))
                writing = [
                    pool.submit(self._write, *one)
                    for one in zip(indices, masks, images, strict=True)
                ]
            done += _written(writing)
            yield Progress("Pseudo masks", done, len(patches))

    def _computed(self, indices: list[int], images: list[NDArray[np.uint8]]) -> list[PatchMasks]:
        """Return the masks of a batch, whose patches all have one label, or all several."""
        labels = self.patches.labels[indices]
        sizes = [rgb.shape[:2] for rgb in images]
        if self.network is None or self.patches.single_label[indices[0]]:
            return [
                PatchMasks(
                    np.full((self.depths, *size), c, np.uint8), np.full(size, 255, np.uint8)
                )
                for size, c in zip(sizes, labels.argmax(1), strict=True)
            ]
        possible = None
        if self.overlaps is not None:
            pairs = zip(indices, sizes, strict=True)
            possible = [self.overlaps.possible(i, size) for i, size in pairs]
        names = [self.patches.names[i] for i in indices]
        return self.network.masks(names, images, labels, possible)

    def _write(self, i: int, found: PatchMasks, rgb: NDArray[np.uint8]) -> None:
        """Write the masks of a patch, glass left out."""
        masks, certainty = found
        if self.glass == "ignore":
            white = glass_mask(
                rgb,
                luminance=self.settings.glass_luminance,
                min_px=self.settings.glass_min_px,
            )
            masks = np.where(white, IGNORE, masks).astype(np.uint8)
            # So that glass can be told from what is left without a class for being uncertain.
            certainty = np.where(white, 255, certainty).astype(np.uint8)
        self.writer.write(self.patches.names[i], masks, certainty)


def _check_fits(
    patches: PatchSet, model: Classifier | Segmenter, settings: PseudoMaskSettings
) -> None:
    """Raise ModelError or DataError if no masks can be made of `patches` by `model`."""
    check_method(model, settings.method)
    if model.classes.names != patches.classes.names:
        raise ModelError(
            f"The {model.info.kind} knows {', '.join(model.classes.names)}; the patches have "
            f"{', '.join(patches.classes.names)}. They must be the same, in the same order."
        )
    check_resolution(model, patches.mpp)
    unlabelled = [n for n, row in zip(patches.names, patches.labels, strict=True) if not row.any()]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} patches have no label, so no class can be given to their "
            f"pixels:{listed(unlabelled)}"
        )


def _written(writing: list[Future[None]]) -> int:
    """Wait until patches are written, raise what went wrong, and return how many."""
    for future in writing:
        future.result()
    return len(writing)


def _batches(todo: list[int], labels: NDArray[np.bool_], size: int) -> Iterator[list[int]]:
    """Yield batches of patches with one label, then of those with more, fewest first.

    Patches with as many classes as each other need as many backward passes.
    """
    counts = labels.sum(1)
    ranked = sorted(todo, key=lambda i: counts[i])
    for _, part in itertools.groupby(ranked, key=lambda i: counts[i] > 1):
        members = list(part)
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _prepare_folder(out: Path, mark: str, overwrite: bool) -> None:
    """Continue an unfinished folder of the same inputs; replace only what is ours."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    ours = (out / RECORD).is_file()
    if ours and _unfinished(out, mark, overwrite):
        return
    if not (overwrite and ours):
        reason = "with --overwrite" if ours else "by hand: it holds other things than pseudo masks"
        raise OutputError(f"{out} exists. Choose another folder, or replace it {reason}.")
    try:
        shutil.rmtree(out)
    except OSError as error:
        raise output_error(out, error) from error


def _unfinished(out: Path, mark: str, overwrite: bool) -> bool:
    """Whether `out` is an unfinished folder of the same inputs."""
    try:
        record = read_record(out)
    except DataError:
        if overwrite:
            return False
        raise
    return not record.get("complete") and record["fingerprint"] == mark


def _fingerprint(
    patches: PatchSet, model: Classifier | Segmenter, settings: PseudoMaskSettings, glass: str
) -> str:
    parts = (patches.fingerprint, settings.model_dump_json(), glass, model.info)
    digest = hashlib.sha256(repr(parts).encode())
    for value in model.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
