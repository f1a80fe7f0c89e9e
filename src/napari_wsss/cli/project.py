"""``demo`` and ``run``: all stages in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import Device, Json, Overwrite, Quiet

__all__ = ["demo", "register", "run_project"]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("demo")(demo)
    app.command("run")(run_project)


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write.")] = Path(
        "napari-wsss-demo"
    ),
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Seed of the slide and the training.")
    ] = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Draw a synthetic slide, run every stage on it, and measure the result (minutes)."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.tables import rows_table
    from napari_wsss.workflows import demo_job

    result = terminal.run(demo_job, out, seed=seed, device=device, overwrite=overwrite)
    terminal.say(
        rows_table(result.table), f"Report: {result.report}", f"Done in {result.seconds:.0f} s"
    )
    terminal.summary(
        {"table": result.table, "report": result.report, "seconds": round(result.seconds, 3)}
    )


def run_project(
    project: Annotated[
        Path,
        typer.Argument(
            metavar="PROJECT.toml",
            help="What to train on, where to write, and the settings of every stage.",
            show_default=False,
        ),
    ],
    device: Device = "auto",
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Run all stages of a project file, skipping those that are done."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.tables import area_table, evaluation_tables, pairs_table
    from napari_wsss.workflows import project_job

    summary = terminal.run(project_job, project, device=device, overwrite=overwrite)
    terminal.say(pairs_table(summary["stages"]))
    if "evaluation" in summary:
        terminal.say(*evaluation_tables(summary["evaluation"]))
    for name, found in summary.get("slides", {}).items():
        terminal.say(name, area_table(found["classes"]))
    terminal.say(f"Results: {summary['out']}")
    terminal.summary(summary)
