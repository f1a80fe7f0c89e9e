"""``pretrain``: encoder weights from slides without labels."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import (
    Changes,
    Device,
    Json,
    Mpp,
    Overwrite,
    Quiet,
    Seed,
    SettingsFile,
)
from napari_wsss.cli.settings_text import with_settings

__all__ = ["pretrain", "register"]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("pretrain", cls=with_settings("pretrain"))(pretrain)


def pretrain(
    slides: Annotated[
        list[Path],
        typer.Argument(
            metavar="SLIDES...",
            help="Slides, images, folders of these, or patch sets, whose labels are not read; of "
            "a set with splits, the training split.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="WEIGHTS", help="File to write (.safetensors).", show_default=False
        ),
    ],
    settings: SettingsFile = None,
    changes: Changes = None,
    seed: Seed = None,
    device: Device = "auto",
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Pretrain the encoder on tissue without labels; an unfinished run goes on.

    Phase 1 begins from the result with --set encoder.weights=WEIGHTS.
    """
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import PretrainSettings

    values = read_settings(PretrainSettings, settings, changes, seed)
    from napari_wsss.cli.tables import metrics_table
    from napari_wsss.training import history_path, pretrain_job

    began = time.perf_counter()
    done = terminal.run(
        pretrain_job, slides, out, values, mpp=mpp, device=device, overwrite=overwrite
    )
    seconds = time.perf_counter() - began
    info = done.info
    terminal.say(
        f"Weights of {info.encoder.name} in {out} ({info.tiles} tiles of {info.sources} slides "
        f"and images, {len(done.history)} epochs, {seconds:.0f} s)",
        metrics_table(info.metrics),
        f"Next: napari-wsss train-classifier DATASET --out MODEL --set encoder.weights={out}"
        f" --set encoder.name={info.encoder.name}",
    )
    terminal.summary(
        {
            "weights": out,
            "encoder": info.encoder.name,
            "method": info.method,
            "tiles": info.tiles,
            "sources": info.sources,
            "seed": values.seed,
            "epochs": len(done.history),
            "metrics": dict(info.metrics),
            "history": history_path(out),
            "seconds": round(seconds, 3),
        }
    )
