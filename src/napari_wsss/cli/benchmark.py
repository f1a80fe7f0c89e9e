"""``benchmark``: a released data set, from its folder to the table of the papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import Changes, Device, Json, Overwrite, Quiet, SettingsFile
from napari_wsss.errors import SettingsError

__all__ = ["benchmark", "register"]

_SPLITS = ("val", "test")


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("benchmark")(benchmark)


def benchmark(
    name: Annotated[
        str, typer.Argument(metavar="SET", help="luad-histoseg or bcss-wsss.", show_default=False)
    ],
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The set as downloaded: train/, and val/ and test/ with img/ and mask/.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="Folder for models and tables.", show_default=False
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            metavar="NAME",
            help="Settings of all stages: 'mlps', as published, or 'default', what measured best.",
        ),
    ] = "default",
    split: Annotated[
        str, typer.Option("--split", metavar="NAME", help="What is measured on: test or val.")
    ] = "test",
    settings: SettingsFile = None,
    changes: Changes = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Seed of every random choice.")
    ] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Train on a released set by its patch labels, and print the table of the papers.

    Settings are those of the stages: --set classifier.epochs=20, or the tables [classifier],
    [pseudo_masks], [segmenter] and [evaluation] of a file. An interrupted run goes on.
    """
    if split not in _SPLITS:
        raise typer.BadParameter(
            f"{split!r} is not one of {', '.join(_SPLITS)}", param_hint="--split"
        )
    terminal = Terminal(json, quiet=quiet)
    bundle, evaluation = _settings(recipe, settings, changes)
    from napari_wsss.cli.tables import evaluation_tables
    from napari_wsss.workflows.benchmark import benchmark_job

    how: dict[str, Any] = {"split": split, "seed": seed, "evaluation": evaluation}
    result = terminal.run(
        benchmark_job, name, folder, out, bundle, device=device, overwrite=overwrite, **how
    )
    for method, found in result.evaluations.items():
        terminal.say(f"{method}, {name} {split}", *evaluation_tables(found))
    terminal.say(f"Table: {out / 'benchmark.md'}")
    terminal.summary(
        {
            "benchmark": name,
            "split": split,
            "recipe": recipe,
            "seed": seed,
            "table": result.table,
            "evaluations": result.evaluations,
            "stages": result.stages,
            "out": out,
        }
    )


def _settings(name: str, file: Path | None, changes: list[str] | None) -> tuple[Any, Any]:
    """Return the recipe and the settings of the evaluation, with what the caller changed."""
    from napari_wsss.cli.stages import merged_values, validated
    from napari_wsss.recipes import RECIPE_STAGES
    from napari_wsss.recipes import recipe as named
    from napari_wsss.settings import EvaluationSettings

    values = merged_values(file, changes)
    tables = (*RECIPE_STAGES, "evaluation")
    for key, value in values.items():
        if key not in tables or not isinstance(value, dict):
            raise SettingsError(
                f"{key} is no stage. Name the stage first, such as --set classifier.epochs=20; "
                f"there are {', '.join(tables)}."
            )
    bundle = named(name)
    stages = {
        stage: validated(
            type(getattr(bundle, stage)), bundle.with_values(stage, values.get(stage, {})), file
        )
        for stage in RECIPE_STAGES
    }
    evaluation = validated(EvaluationSettings, values.get("evaluation", {}), file)
    return bundle.model_copy(update=stages), evaluation
