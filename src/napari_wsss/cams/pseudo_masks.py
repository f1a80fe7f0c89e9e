"""Pseudo masks of a patch set from a classifier's maps."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_wsss.cams.maps import depth_maps
from napari_wsss.cams.store import RECORD, PseudoMasks, PseudoMaskWriter, read_record, write_record
from napari_wsss.classes import IGNORE
from napari_wsss.errors import DataError, ModelError, OutputError, listed
from napari_wsss.files import output_error
from napari_wsss.jobs import CancelToken, Event, Job, Log, Progress, run_job
from napari_wsss.models import Classifier
from napari_wsss.models.base import check_resolution
from napari_wsss.models.device import autocast, choose_device, describe_device, prepare_process
from napari_wsss.patches import PatchSet
from napari_wsss.settings import PseudoMaskSettings
from napari_wsss.slides import glass_mask

__all__ = ["agreement", "generate_pseudo_masks", "masks_from_maps", "pseudo_mask_job"]

#: Files are written by this many threads (PNG compression releases the interpreter).
_WRITERS = 2


def generate_pseudo_masks(
    patches: PatchSet,
    classifier: Classifier,
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

    Parameters
    ----------
    patches
        Patches (H, W, 3) with labels (N, K). Their masks, if any, are not read.
    classifier
        With the same classes in the same order.
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
        If the classifier has other classes than the patches.
    DataError, OutputError, CancelledError
        As they say.
    """
    job = pseudo_mask_job(
        patches,
        classifier,
        Path(out),
        settings,
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    return run_job(job, on_event)


def pseudo_mask_job(
    patches: PatchSet,
    classifier: Classifier,
    out: Path,
    settings: PseudoMaskSettings | None = None,
    *,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[PseudoMasks]:
    """Yield the events of `generate_pseudo_masks`, which documents the parameters."""
    settings = settings or PseudoMaskSettings()
    cancel = cancel or CancelToken()
    if classifier.classes.names != patches.classes.names:
        raise ModelError(
            f"The classifier knows {', '.join(classifier.classes.names)}; the patches have "
            f"{', '.join(patches.classes.names)}. They must be the same, in the same order."
        )
    check_resolution(classifier, patches.mpp)
    unlabelled = [n for n, row in zip(patches.names, patches.labels, strict=True) if not row.any()]
    if unlabelled:
        raise DataError(
            f"{len(unlabelled)} patches have no label, so no class can be given to their "
            f"pixels:{listed(unlabelled)}"
        )
    glass = patches.glass if settings.glass == "auto" else settings.glass
    depths = len(classifier.stages)
    mark = _fingerprint(patches, classifier, settings, glass)
    _prepare_folder(out, mark, overwrite)
    record = {
        "complete": False,
        "fingerprint": mark,
        "depths": depths,
        "classifier": classifier.info.model_dump(mode="json"),
        "settings": {**settings.model_dump(mode="json"), "glass": glass},
    }
    write_record(out, record)
    patches.classes.with_index_values().write(out / "classes.toml")
    writer = PseudoMaskWriter(out, patches.classes, depths)
    where = choose_device(device)
    prepare_process()
    model = classifier.to(where).to(memory_format=torch.channels_last).eval()
    single = patches.single_label
    yield Log(
        f"Pseudo masks of {len(patches)} patches ({int(single.sum())} with one label need no "
        f"network) on {describe_device(where)}"
    )
    done = 0
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="masks") as pool:

        def finish(i: int, masks: NDArray[np.uint8], rgb: NDArray[np.uint8]) -> None:
            agree = agreement(masks)
            if glass == "ignore":
                white = glass_mask(
                    rgb, luminance=settings.glass_luminance, min_px=settings.glass_min_px
                )
                masks = np.where(white, IGNORE, masks).astype(np.uint8)
            writer.write(patches.names[i], masks, agree)

        todo = [i for i in range(len(patches)) if not writer.has(patches.names[i])]
        done = len(patches) - len(todo)
        for indices in _batches(todo, single, settings.batch_size):
            cancel.raise_if_cancelled()
            images = list(pool.map(patches.read, indices))
            if single[indices[0]]:
                classes = patches.labels[indices].argmax(1)
                masks = [
                    np.full((depths, *rgb.shape[:2]), c, np.uint8)
                    for rgb, c in zip(images, classes, strict=True)
                ]
            else:
                names = [patches.names[i] for i in indices]
                labels = patches.labels[indices]
                masks = _network_masks(model, names, images, labels, settings, where)
            list(pool.map(finish, indices, masks, images))
            done += len(indices)
            yield Progress("Pseudo masks", done, len(patches))
    write_record(out, {**record, "complete": True, "patches": len(patches)})
    classifier.to("cpu")
    return PseudoMasks(out)


def masks_from_maps(maps: list[Tensor]) -> Tensor:
    """Return (N, D, H, W) uint8 class indices: the arg-max of each depth's maps.

    Classes that were not wanted are minus infinity and cannot win, not even a tie.
    """
    return torch.stack([m.argmax(1) for m in maps], 1).to(torch.uint8)


def agreement(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return (H, W): the share of the (D, H, W) masks equal to the deepest, times 255."""
    return np.round((masks == masks[-1]).mean(0) * 255).astype(np.uint8)


def _network_masks(
    model: Classifier,
    names: list[str],
    images: list[NDArray[np.uint8]],
    labels: NDArray[np.bool_],
    settings: PseudoMaskSettings,
    device: torch.device,
) -> list[NDArray[np.uint8]]:
    """Return (D, H, W) masks of patches; those of one size share a forward pass."""
    masks: list[NDArray[np.uint8] | None] = [None] * len(images)
    sizes: dict[tuple[int, ...], list[int]] = {}
    for i, image in enumerate(images):
        sizes.setdefault(image.shape, []).append(i)
    for members in sizes.values():
        batch = torch.from_numpy(np.stack([images[i] for i in members])).to(device)
        batch = batch.permute(0, 3, 1, 2).float() / 255
        wanted = torch.from_numpy(labels[members].astype(bool)).to(device)
        with autocast(device):
            maps = depth_maps(model, batch, wanted, method=settings.method, flips=settings.flips)
        _check_maps(maps, wanted, [names[i] for i in members])
        for i, mask in zip(members, masks_from_maps(maps).cpu().numpy(), strict=True):
            masks[i] = mask
    return [m for m in masks if m is not None]


def _check_maps(maps: list[Tensor], wanted: Tensor, names: list[str]) -> None:
    """Raise ModelError naming the first patch whose wanted maps are no numbers."""
    for m in maps:
        # Maps of absent classes are minus infinity on purpose.
        good = (torch.isfinite(m).flatten(2).all(2) == wanted).all(1)
        if not bool(good.all()):
            raise ModelError(
                f"The maps of patch {names[int(good.int().argmin())]!r} are no numbers (NaN or "
                "infinite). The classifier is damaged or was trained badly."
            )


def _batches(todo: list[int], single: NDArray[np.bool_], size: int) -> Iterator[list[int]]:
    """Yield batches that hold either single-label patches only or none."""
    for wanted in (True, False):
        part = [i for i in todo if bool(single[i]) == wanted]
        for start in range(0, len(part), size):
            yield part[start : start + size]


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
    patches: PatchSet, classifier: Classifier, settings: PseudoMaskSettings, glass: str
) -> str:
    parts = (patches.fingerprint, settings.model_dump_json(), glass, classifier.info)
    digest = hashlib.sha256(repr(parts).encode())
    for value in classifier.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
