"""Self-supervised pretraining of the encoder on tiles without labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_wsss.errors import OutputError, TrainingError
from napari_wsss.files import check_absent, check_writable
from napari_wsss.jobs import CancelToken, EpochEnd, Event, Job, run_job
from napari_wsss.models.device import autocast
from napari_wsss.models.weights import write_encoder_weights
from napari_wsss.settings import EncoderSettings, PretrainSettings
from napari_wsss.training.batches import Batch
from napari_wsss.training.loop import fingerprint, fit, step_seed
from napari_wsss.training.phase import Phase, Validation
from napari_wsss.training.ssl_networks import EncoderInfo, PretrainNetwork, make_network
from napari_wsss.training.ssl_sources import TileSource
from napari_wsss.training.ssl_tiles import Tiles, tiles_job

__all__ = ["PretrainedEncoder", "pretrain_encoder", "pretrain_job"]

STAGE = "Pretraining"
#: Tiles that are looked at after each epoch, evenly chosen, and how many at a time.
MEASURED, MEASURED_BATCH = 256, 64
#: Spread of the projections below which the network gives the same answer to every tile.
COLLAPSED = 0.05


@dataclass(frozen=True)
class PretrainedEncoder:
    """A file of encoder weights, and how it came about.

    Attributes
    ----------
    path
        The file; phase 1 takes it as ``encoder.weights``.
    info
        Its header.
    history
        Metrics of every epoch: ``loss``; ``spread`` (0 collapsed, 1 as different as can be)
        and ``match`` (share of views that are most like the other view of their tile).
    """

    path: Path
    info: EncoderInfo
    history: list[dict[str, float]]

    def encoder(self, begun: EncoderSettings | None = None) -> EncoderSettings:
        """Return `begun` (by default `EncoderSettings()`) with this encoder and its weights."""
        begun = begun or EncoderSettings()
        return begun.changed(name=self.info.encoder.name, weights=str(self.path))


def pretrain_encoder(
    sources: TileSource | Iterable[TileSource],
    out: str | Path,
    settings: PretrainSettings | None = None,
    *,
    mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Callable[[Event], object] | None = None,
    cancel: CancelToken | None = None,
) -> PretrainedEncoder:
    """Pretrain an encoder on tissue without labels and write its weights to `out`.

    Parameters
    ----------
    sources
        One or several of: slides, slide or image files, folders of these, patch sets. Of a
        patch set the images of its training split are used; labels and masks never are.
    out
        File of weights (``.safetensors``) in the names of timm, for ``encoder.weights``; an
        unfinished run of the same tiles and settings is resumed.
    settings
        Defaults to `PretrainSettings()`.
    mpp
        µm/px of the slides and images, where they do not say it or say it wrongly.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"`` ...
    overwrite
        Whether an existing file, or an unfinished run with other settings, may be replaced.
    on_event
        Called with progress and the metrics of each epoch.
    cancel
        Stops the run at the next step; finished epochs are kept.

    Returns
    -------
    PretrainedEncoder
        Of the last epoch.

    Raises
    ------
    DataError
        If there is no tissue, or less than a batch of tiles.
    TrainingError
        If the network collapsed: it gives the same answer to every tile.
    SlideError, OutputError, ModelError, CancelledError
        As they say.
    """
    job = pretrain_job(
        sources, Path(out), settings, mpp=mpp, device=device, overwrite=overwrite, cancel=cancel
    )
    return run_job(job, on_event)


def pretrain_job(
    sources: TileSource | Iterable[TileSource],
    out: Path,
    settings: PretrainSettings | None = None,
    *,
    mpp: float | None = None,
    device: str = "auto",
    overwrite: bool = False,
    cancel: CancelToken | None = None,
) -> Job[PretrainedEncoder]:
    """Yield the events of `pretrain_encoder`, which documents the parameters."""
    settings = settings or PretrainSettings()
    if out.suffix != ".safetensors":
        raise OutputError(f"Weights are written as .safetensors; {out.name} must end in that.")
    check_absent(out, overwrite)
    check_writable(out)
    cancel = cancel or CancelToken()
    tiles: Tiles = yield from tiles_job(sources, settings, mpp=mpp, cancel=cancel)
    info = EncoderInfo(
        encoder=settings.encoder,
        method=settings.method,
        tiles=len(tiles),
        sources=tiles.sources,
        training=settings.model_dump(mode="json"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = make_network(settings, info)
    run = fit(
        network,
        _phase(tiles, settings),
        settings,
        out,
        mark=fingerprint("pretrain", tiles.fingerprint, settings.model_dump_json()),
        device=device,
        overwrite=overwrite,
        cancel=cancel,
    )
    network = yield from _watched(run, settings)
    return PretrainedEncoder(out, network.info, network.history)


def _phase(tiles: Tiles, settings: PretrainSettings) -> Phase:
    n, size = len(tiles), settings.batch_size
    steps = settings.steps_per_epoch or n // size

    def batches(epoch: int) -> Iterator[Batch]:
        for chosen in _order(n, size, steps, step_seed(settings.seed, epoch)):
            yield _batch(tiles, chosen)

    def loss(network: PretrainNetwork, batch: Batch, _: int, generator: torch.Generator) -> Tensor:
        return network.loss(batch.images / 255, generator)

    def validate(network: PretrainNetwork, device: torch.device) -> Validation:
        return Validation(_measured(network, tiles, device, settings))

    # No metric chooses an epoch, so the last one is kept.
    return Phase(STAGE, batches, steps, loss, validate, score="", save=_write)


def _order(n: int, size: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Yield the tiles of each step: no tile twice in a batch, all in turn."""
    rng = np.random.default_rng(seed)
    done = 0
    while done < steps:
        shuffled = rng.permutation(n)
        for start in range(0, n - size + 1, size):
            if done == steps:
                return
            yield shuffled[start : start + size]
            done += 1


def _batch(tiles: Tiles, chosen: np.ndarray) -> Batch:
    images = torch.from_numpy(tiles.pixels[chosen]).permute(0, 3, 1, 2).contiguous()
    return Batch(images, torch.zeros(len(chosen), 0), None)


@torch.inference_mode()
def _measured(
    network: PretrainNetwork, tiles: Tiles, device: torch.device, settings: PretrainSettings
) -> dict[str, float]:
    """Return ``spread`` and ``match`` of two views of some tiles, the same after every epoch.

    The spread is the standard deviation of the normalised projections, as a share of the
    ``1 / sqrt(P)`` that it is where they point in all directions alike; a network that
    collapsed has 0 (Chen and He 2021, "Exploring simple Siamese representation learning",
    section 4.1).
    """
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = np.unique(np.linspace(0, len(tiles) - 1, min(MEASURED, len(tiles))).astype(int))
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for start in range(0, len(chosen), MEASURED_BATCH):
        images = _batch(tiles, chosen[start : start + MEASURED_BATCH]).images.to(device) / 255
        for side in sides:
            with autocast(device, settings.precision):
                found = network.embed(network.view(images, generator))
            side.append(F.normalize(found.float()).cpu())
    one, two = (torch.cat(side) for side in sides)
    nearest = (one @ two.T).argmax(1)
    return {
        "spread": float(one.std(0).mean()) * one.shape[1] ** 0.5,
        "match": float((nearest == torch.arange(len(one))).float().mean()),
    }


def _watched(run: Job[PretrainNetwork], settings: PretrainSettings) -> Job[PretrainNetwork]:
    """Yield the events of `run`; TrainingError after an epoch in which it collapsed."""
    try:
        while True:
            try:
                event = next(run)
            except StopIteration as stop:
                return stop.value
            yield event
            if isinstance(event, EpochEnd) and event.metrics["spread"] < COLLAPSED:
                raise TrainingError(_collapsed(event, settings))
    finally:
        run.close()


def _collapsed(event: EpochEnd, settings: PretrainSettings) -> str:
    advice = {
        "simclr": "Lower optimiser.encoder_lr",
        "byol": "Raise target_momentum, lower optimiser.encoder_lr, or set method = 'simclr'",
        "patches": "Lower optimiser.encoder_lr, or set method = 'simclr'",
    }[settings.method]
    return (
        f"Pretraining collapsed: after epoch {event.epoch} the network gives nearly the same "
        f"answer to every tile (spread {event.metrics['spread']:.2f}, where 1 is healthy), so "
        f"its weights are worth nothing and are not written. {advice}, and begin anew with "
        "--overwrite."
    )


def _write(network: PretrainNetwork, out: Path) -> None:
    """Write the weights of the encoder, named as timm names them."""
    # One entry only: the order of several is another one each time.
    header = json.dumps(network.info.model_dump(mode="json"))
    write_encoder_weights(network.encoder.net, out, {"wsss_encoder": header})
