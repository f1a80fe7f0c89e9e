"""``patches from-labels``: a patch set from what was labelled on slides."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import Json, Overwrite, Quiet

__all__ = ["from_labels"]


class Groups(StrEnum):
    """What is held out together."""

    AUTO = "auto"
    SLIDES = "slides"
    REGIONS = "regions"


class White(StrEnum):
    """What white pixels are."""

    IGNORE = "ignore"
    TISSUE = "tissue"


def from_labels(
    labels: Annotated[
        list[Path],
        typer.Argument(
            metavar="LABELS...",
            help="Files of labels (*.labels.jsonl), or folders of them.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False),
    ],
    slides: Annotated[
        Path | None,
        typer.Option(
            "--slides",
            metavar="DIR",
            help="Where the slides are now, if they have moved since they were labelled.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[
        Groups,
        typer.Option(
            "--groups",
            help="What is held out together for validation: whole slides, or regions of them; "
            "'auto' takes regions where no slide can be spared.",
        ),
    ] = Groups.AUTO,
    glass: Annotated[
        White,
        typer.Option("--glass", help="White: no class ('ignore') or tissue ('tissue', for fat)."),
    ] = White.IGNORE,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Cut the patches that were labelled on slides in napari."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.patches import label_files, on_slide_job

    files = [file for path in labels for file in (label_files(path) if path.is_dir() else [path])]
    patches = terminal.run(
        on_slide_job,
        files,
        out,
        slides_folder=slides,
        groups=groups.value,
        glass=glass.value,
        overwrite=overwrite,
    )
    per_class = dict(zip(patches.classes.names, patches.labels.sum(0).tolist(), strict=True))
    counts = ", ".join(f"{name} {n}" for name, n in per_class.items())
    terminal.say(f"{len(patches)} patches of {len(files)} slides in {out} ({counts})")
    terminal.summary(
        {
            "dataset": out,
            "labels": files,
            "patches": len(patches),
            "groups": len(set(patches.groups)),
            "classes": per_class,
            "single_label": int(patches.single_label.sum()),
            "mpp": patches.mpp,
            "glass": patches.glass,
        }
    )
