"""``models``: list the models that can be named, add, remove and describe them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import Json, Overwrite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.table import Table

    from napari_wsss.models import RegisteredModel

__all__ = ["register"]

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the model.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        help="List the models that can be named in place of a file; add, remove, describe them.",
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.callback()(list_models)
    group.command("add")(add)
    group.command("remove")(remove)
    group.command("card")(card)
    group.command("pack")(pack)
    app.add_typer(group, name="models")


def list_models(context: typer.Context, json: Json = None) -> None:
    """List the models that can be named in place of a file; add, remove, describe them."""
    if context.invoked_subcommand is not None:
        return
    terminal = Terminal(json)
    from napari_wsss.models.registry import registered_models, user_registry

    models = registered_models()
    if models:
        terminal.say(_table(models), "About one of them: napari-wsss models card NAME")
    else:
        terminal.say("No models are registered. To add one: napari-wsss models add NAME FILE")
    terminal.summary(
        {
            "registry": user_registry(),
            "models": [
                {
                    **model.entry.model_dump(mode="json"),
                    "file": model.file,
                    "card": model.card,
                    "shipped": model.shipped,
                }
                for model in models
            ],
        }
    )


def add(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Letters, digits, '-' and '_': breast-20x.", show_default=False
        ),
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE_OR_URL",
            help="Checkpoint, which stays where it is, or an address, downloaded now.",
            show_default=False,
        ),
    ],
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256",
            metavar="HEX",
            help="Checksum it must have; by default that of the file as it is now.",
            show_default=False,
        ),
    ] = None,
    purpose: Annotated[
        str,
        typer.Option(
            "--for", metavar="TEXT", help="What it is for, in one line.", show_default=False
        ),
    ] = "",
    terms: Annotated[
        str,
        typer.Option(
            "--terms", metavar="TEXT", help="Under which terms it may be used.", show_default=False
        ),
    ] = "",
    card_file: Annotated[
        Path | None,
        typer.Option(
            "--card", metavar="FILE", help="Markdown that describes it.", show_default=False
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Register a model, so that its name stands for it wherever a model is asked for."""
    terminal = Terminal(json)
    from napari_wsss.models import add_model

    with terminal.busy("Looking at the model"):
        added = add_model(
            name, source, sha256=sha256, purpose=purpose, terms=terms, card=card_file
        )
    terminal.say(
        f"{name} stands for {source} ({added.entry.kind}: {', '.join(added.entry.classes)})"
    )
    terminal.summary({"registry": added.registry, **added.entry.model_dump(mode="json")})


def remove(name: Name, json: Json = None) -> None:
    """Take a model out of your registry; its file stays where it is."""
    terminal = Terminal(json)
    from napari_wsss.models import remove_model

    remove_model(name)
    terminal.say(f"{name} is no longer registered.")
    terminal.summary({"removed": name})


def card(name: Name, json: Json = None) -> None:
    """Show what a model is: its data and their terms, how well it does, when not to use it."""
    terminal = Terminal(json)
    from rich.markdown import Markdown

    from napari_wsss.models import model_card

    text = model_card(name)
    # Markdown itself for a file or another program.
    terminal.say(Markdown(text) if sys.stdout.isatty() else text.rstrip())
    terminal.summary({"name": name, "card": text})


def pack(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="File or name of a model.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="File to write.", show_default=False)
    ],
    overwrite: Overwrite = False,
    json: Json = None,
) -> None:
    """Write a model in half precision: half the size, for handing it on."""
    terminal = Terminal(json)
    from napari_wsss.models import load_model, model_file, save_model

    before = model_file(model).stat().st_size
    save_model(load_model(model), out, overwrite=overwrite, half=True)
    after = out.stat().st_size
    terminal.say(f"{out}: {after / 1e6:.1f} MB, was {before / 1e6:.1f} MB")
    terminal.summary({"model": out, "bytes": after, "bytes_before": before})


def _table(models: Iterable[RegisteredModel]) -> Table:
    """Return one row per model."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table("Name", "For", "Terms", "From", box=SIMPLE, pad_edge=False)
    for model in models:
        entry = model.entry
        place = "the package" if model.shipped else entry.url or str(model.file)
        table.add_row(*(Text(text) for text in (entry.name, entry.purpose, entry.terms, place)))
    return table
