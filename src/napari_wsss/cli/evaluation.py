"""``evaluate``: a model measured on images with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    Seed,
    SettingsFile,
)
from napari_wsss.cli.settings_text import with_settings
from napari_wsss.errors import SettingsError

__all__ = ["evaluate", "register"]

Model = Annotated[
    Path,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="Trained segmenter, a file or a name that 'models' lists; of a classifier, "
        "its maps alone decide.",
        show_default=False,
    ),
]
Images = Annotated[
    Path,
    typer.Option("--images", metavar="DIR", help="Folder of images.", show_default=False),
]
Masks = Annotated[
    Path,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Their masks, of the same names, in the values of the class table.",
        show_default=False,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="DIR",
        help="Write a report with pictures to DIR/report.html.",
        show_default=False,
    ),
]
Flips = Annotated[bool, typer.Option("--flips", help="Average predictions over the four flips.")]

#: Table of the settings file, and first part of --set keys, that holds inference settings.
INFERENCE = "inference"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("evaluate", cls=with_settings("evaluation"))(evaluate)


def evaluate(
    model: Model,
    images: Images,
    masks: Masks,
    report: Report = None,
    flips: Flips = False,
    classes: Classes = None,
    mpp: Mpp = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    seed: Seed = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Measure a model on images with masks, with the gate predicted and with true labels.

    Settings of inference are given as --set inference.KEY=VALUE, or in the table [inference].
    """
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import merged_values, validated
    from napari_wsss.settings import EvaluationSettings, InferenceSettings

    values = merged_values(settings, changes)
    inner = values.pop(INFERENCE, {})
    if not isinstance(inner, dict):
        raise SettingsError(f"{INFERENCE} = {inner!r} is not a table of settings.")
    if seed is not None:
        values["seed"] = seed
    if flips:
        values["flips"] = True
    inference = validated(InferenceSettings, inner, settings)
    evaluation_settings = validated(EvaluationSettings, values, settings)
    from napari_wsss.classes import ClassTable
    from napari_wsss.cli.tables import evaluation_tables, uncertainty_table
    from napari_wsss.files import check_absent
    from napari_wsss.models import load_model
    from napari_wsss.workflows import evaluate_job, report_evaluation

    if report is not None:
        check_absent(report / "report.html", overwrite)
    table = None if classes is None else ClassTable.read(classes)
    network = load_model(model)
    evaluation = terminal.run(
        evaluate_job,
        network,
        images,
        masks,
        table,
        evaluation_settings,
        inference,
        mpp=mpp,
        device=device,
    )
    found = evaluation.to_dict()
    terminal.say(
        f"{found['conditions']['images']} images; in brackets 95 % intervals over the images",
        *evaluation_tables(found),
        uncertainty_table(found["uncertainty"]),
    )
    terminal.summary({**found, "inputs": {"model": model, "images": images, "masks": masks}})
    if report is not None:
        with terminal.busy("Writing the report"):
            path = report_evaluation(
                evaluation, network, images, masks, report, mpp=mpp, device=device
            )
        terminal.say(f"Report: {path}")
