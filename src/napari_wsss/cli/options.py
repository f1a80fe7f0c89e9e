"""Options that several commands share, explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Changes",
    "Classes",
    "Device",
    "Json",
    "ModelMpp",
    "Mpp",
    "Overwrite",
    "Quiet",
    "RecipeName",
    "Seed",
    "SettingsFile",
]

SettingsFile = Annotated[
    Path | None,
    typer.Option(
        "--settings",
        metavar="FILE",
        help="TOML file of settings; begin with what 'napari-wsss settings STAGE' prints.",
        show_default=False,
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="NAME",
        help="Settings to begin with: 'mlps', as published, or 'default', what measured best. "
        "Give all three stages the same.",
        show_default=False,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, overruling the file: --set epochs=20 --set encoder.output_stride=8.",
        show_default=False,
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        metavar="N",
        help="Seed of every random choice; overrules the settings.",
        show_default=False,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, mps: where networks compute."
    ),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an earlier result at the same place.")
]
Json = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write a summary for machines; '-' writes it to standard output.",
        show_default=False,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Show no progress, only results, warnings and errors."),
]
Classes = Annotated[
    Path | None,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="classes.toml with names, colours and mask values; overrules what the data says.",
        show_default=False,
    ),
]
Mpp = Annotated[
    float | None,
    typer.Option(
        "--mpp",
        metavar="UM_PER_PX",
        help="Micrometres per pixel of the images; overrules what they say.",
        show_default=False,
    ),
]
ModelMpp = Annotated[
    float | None,
    typer.Option(
        "--model-mpp",
        metavar="UM_PER_PX",
        help="Micrometres per pixel that the model was trained at, if its file does not say.",
        show_default=False,
    ),
]
