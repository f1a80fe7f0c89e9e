"""``train-classifier``, ``pseudo-masks`` and ``train-segmenter``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import (
    Changes,
    Classes,
    Device,
    Json,
    Mpp,
    Overwrite,
    Quiet,
    RecipeName,
    Seed,
    SettingsFile,
)
from napari_wsss.cli.settings_text import with_settings

if TYPE_CHECKING:
    from napari_wsss.models import WsssModel
    from napari_wsss.patches import PatchSet

__all__ = ["pseudo_masks", "register", "train_classifier", "train_segmenter"]

Dataset = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="Labelled patches: a folder that 'patches from-masks' wrote, a folder with labels "
        "in the file names, a folder per class, or a CSV or Parquet table.",
        show_default=False,
    ),
]
ModelOut = Annotated[
    Path,
    typer.Option("--out", metavar="MODEL", help="Checkpoint to write.", show_default=False),
]
Processes = Annotated[
    int,
    typer.Option(
        "--processes",
        min=1,
        metavar="N",
        help="Processes of this machine that share every batch; on CUDA each takes a GPU.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("train-classifier", cls=with_settings("classifier"))(train_classifier)
    app.command("pseudo-masks", cls=with_settings("pseudo-masks"))(pseudo_masks)
    app.command("train-segmenter", cls=with_settings("segmenter"))(train_segmenter)


def train_classifier(
    dataset: Dataset,
    out: ModelOut,
    recipe: RecipeName = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    seed: Seed = None,
    device: Device = "auto",
    classes: Classes = None,
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    processes: Processes = 1,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train the patch classifier from patch labels (phase 1); an unfinished run goes on."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import ClassifierSettings

    values = read_settings(ClassifierSettings, settings, changes, seed, recipe)
    from napari_wsss.patches import load_patches
    from napari_wsss.training import classifier_job

    patches = load_patches(dataset, classes=classes, mpp=mpp)
    began = time.perf_counter()
    how: dict[str, Any] = {"device": device, "overwrite": overwrite, "processes": processes}
    model = terminal.run(classifier_job, patches, out, values, **how)
    _trained(terminal, model, out, patches, time.perf_counter() - began)


def pseudo_masks(
    dataset: Dataset,
    classifier: Annotated[
        Path,
        typer.Option(
            "--classifier",
            "--model",
            metavar="MODEL",
            help="Trained classifier; or, for a second round, the segmenter that was trained on "
            "the masks of the first.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False)
    ],
    check_against: Annotated[
        Path | None,
        typer.Option(
            "--check-against",
            metavar="DIR",
            help="True masks of the patches: measure the pseudo masks, which stay as they are.",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeName = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    device: Device = "auto",
    classes: Classes = None,
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Turn the classifier's maps into masks of the patches, one per depth."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import PseudoMaskSettings

    values = read_settings(PseudoMaskSettings, settings, changes, recipe=recipe)
    from napari_wsss.cams import pseudo_mask_job, pseudo_mask_quality
    from napari_wsss.cli.tables import quality_table
    from napari_wsss.models import load_model
    from napari_wsss.patches import load_patches

    patches = load_patches(dataset, classes=classes, mpp=mpp)
    if check_against is not None:
        check_folder(check_against)
    began = time.perf_counter()
    model = load_model(classifier)
    made = terminal.run(
        pseudo_mask_job, patches, model, out, values, device=device, overwrite=overwrite
    )
    summary: dict[str, Any] = {
        "pseudo_masks": out,
        "patches": len(patches),
        "depths": made.depths,
        "classes": list(made.classes.names),
        "seconds": round(time.perf_counter() - began, 3),
    }
    terminal.say(f"Pseudo masks of {len(patches)} patches at {made.depths} depths in {out}")
    if check_against is not None:
        with terminal.busy("Measuring the pseudo masks"):
            summary["quality"] = pseudo_mask_quality(made, patches, check_against)
        terminal.say(quality_table(summary["quality"]))
    terminal.summary(summary)


def train_segmenter(
    dataset: Dataset,
    out: ModelOut,
    pseudo: Annotated[
        Path | None,
        typer.Option(
            "--pseudo-masks",
            metavar="DIR",
            help="What 'pseudo-masks' wrote: weak supervision.",
            show_default=False,
        ),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            "--masks",
            metavar="DIR",
            help="True masks named as the patches: full supervision, to compare with.",
            show_default=False,
        ),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            metavar="DIR",
            help="Corrected regions of results, learnt from besides by their true masks.",
            show_default=False,
        ),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            "--unlabelled",
            metavar="DIR",
            help="Tiles without labels, learnt from besides; needs --set teacher.decay=0.97 "
            "--set teacher.relabel_from=0.35 or a recipe with a teacher.",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeName = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    seed: Seed = None,
    device: Device = "auto",
    classes: Classes = None,
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    processes: Processes = 1,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train the segmentation network (phase 2) from pseudo masks or from true masks."""
    if (pseudo is None) == (masks is None):
        raise typer.BadParameter("give exactly one of them", param_hint="--pseudo-masks / --masks")
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import SegmenterSettings

    values = read_settings(SegmenterSettings, settings, changes, seed, recipe)
    from napari_wsss.cams import PseudoMasks
    from napari_wsss.patches import load_patches
    from napari_wsss.training import TrueMasks, read_corrections, segmenter_job
    from napari_wsss.training.unlabelled import read_unlabelled

    if masks is not None:
        check_folder(masks)
    patches = load_patches(dataset, classes=classes, mpp=mpp)
    targets = TrueMasks(patches, masks) if pseudo is None else PseudoMasks(pseudo)
    began = time.perf_counter()
    how: dict[str, Any] = {"device": device, "overwrite": overwrite, "processes": processes}
    if corrections is not None:
        how["corrections"] = read_corrections(corrections)
    if unlabelled is not None:
        how["unlabelled"] = read_unlabelled(unlabelled, patches)
    model = terminal.run(segmenter_job, patches, targets, out, values, **how)
    _trained(terminal, model, out, patches, time.perf_counter() - began)


def check_folder(folder: Path) -> None:
    """Raise DataError if there is no such folder of masks."""
    from napari_wsss.errors import DataError

    if not folder.is_dir():
        raise DataError(f"There is no folder of masks {folder}.")


def _trained(
    terminal: Terminal, model: WsssModel, out: Path, patches: PatchSet, seconds: float
) -> None:
    """Tell and write what came out of a training run."""
    from napari_wsss.cli.tables import metrics_table
    from napari_wsss.training import history_path

    info = model.info
    best = [i for i, epoch in enumerate(model.history, 1) if epoch.get("best")]
    terminal.say(
        f"{info.kind.capitalize()} in {out} (epoch {best[-1] if best else len(model.history)} of "
        f"{len(model.history)}, {seconds:.0f} s, from {info.supervision})",
        metrics_table(info.metrics),
    )
    terminal.summary(
        {
            "model": out,
            "kind": info.kind,
            "supervision": info.supervision,
            "classes": list(model.classes.names),
            "mpp": info.mpp,
            "patches": len(patches),
            "patch_size_px": info.patch_size_px,
            "encoder": info.encoder.name,
            "seed": info.seed,
            "epochs": len(model.history),
            "best_epoch": best[-1] if best else None,
            "metrics": dict(info.metrics),
            "history": history_path(out),
            "seconds": round(seconds, 3),
        }
    )
