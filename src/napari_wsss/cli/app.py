"""The commands of ``napari-wsss``, put together."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from napari_wsss import __version__
from napari_wsss.cli import (
    benchmark,
    evaluation,
    exporting,
    info,
    models,
    patches,
    pretraining,
    project,
    slides,
    training,
)
from napari_wsss.cli.errors import ErrorGroup

__all__ = ["app", "quieten_libraries"]

#: Set to anything, it shows tracebacks like ``--debug``.
DEBUG_VARIABLE = "NAPARI_WSSS_DEBUG"

_EPILOG = (
    "Each command explains itself: napari-wsss COMMAND --help. The settings of a stage: "
    "napari-wsss settings STAGE."
)

app = typer.Typer(
    cls=ErrorGroup,
    help="Pixel-level segmentation of H&E slides from patch-level labels.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def quieten_libraries() -> None:
    """Let only warnings of other libraries' logs through, and no Python warnings.

    For the process of the command line only: warnings of libraries are meant for
    developers, who see them with the debug variable.
    """
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    if not os.environ.get(DEBUG_VARIABLE):
        logging.captureWarnings(True)
        logging.getLogger("py.warnings").setLevel(logging.ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"napari-wsss {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show the traceback of an error."),
    ] = False,
) -> None:
    """Pixel-level segmentation of H&E slides from patch-level labels."""


for _room in (
    project,
    info,
    patches,
    pretraining,
    training,
    slides,
    evaluation,
    benchmark,
    exporting,
    models,
):
    _room.register(app)
