"""``export``: results for QuPath, for a spreadsheet, and as a picture."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.options import Json, Mpp, Overwrite, Quiet

__all__ = ["export", "register"]

Result = Annotated[
    Path,
    typer.Argument(
        metavar="RESULT", help="Folder NAME.ome.zarr that 'segment' wrote.", show_default=False
    ),
]
GeoJson = Annotated[
    Path | None,
    typer.Option(
        "--geojson",
        metavar="FILE",
        help="Outlines for QuPath, in pixels of the slide (.geojson or .geojson.gz).",
        show_default=False,
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        metavar="FILE",
        help="Areas per class, counted at full resolution.",
        show_default=False,
    ),
]
Picture = Annotated[
    Path | None,
    typer.Option(
        "--picture",
        metavar="FILE",
        help="The segmentation as .png, with legend and scale bar.",
        show_default=False,
    ),
]
Slide = Annotated[
    Path | None,
    typer.Option(
        "--slide",
        metavar="FILE",
        help="Shown below the colours of the picture.",
        show_default=False,
    ),
]
Simplify = Annotated[
    float,
    typer.Option(
        "--simplify",
        min=0,
        metavar="PX",
        help="Straighten outlines by at most so many pixels of the result (0: exact).",
    ),
]
MinArea = Annotated[
    float,
    typer.Option(
        "--min-area",
        min=0,
        metavar="PX",
        help="Leave out regions of fewer pixels of the result.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("export")(export)


def export(
    result: Result,
    geojson: GeoJson = None,
    csv: Csv = None,
    picture: Picture = None,
    slide: Slide = None,
    simplify: Simplify = 0.0,
    min_area: MinArea = 0.0,
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Export a segmented slide as GeoJSON for QuPath, its areas as CSV, or as a picture."""
    if geojson is None and csv is None and picture is None:
        hint = "--geojson / --csv / --picture"
        raise typer.BadParameter("give at least one of them", param_hint=hint)
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.tables import area_table
    from napari_wsss.files import check_absent
    from napari_wsss.inference import SlideSegmentation
    from napari_wsss.slides import open_slide
    from napari_wsss.slides.resolution import validated_mpp
    from napari_wsss.workflows import export_job

    for file in (geojson, csv, picture):
        if file is not None:
            check_absent(file, overwrite)
    found = SlideSegmentation.open(result)
    if mpp is not None:
        # What was given is of the slide; a label pixel covers `downsample` of its pixels.
        found = replace(found, mpp=validated_mpp(mpp) * math.sqrt(math.prod(found.downsample)))
    with nullcontext() if slide is None else open_slide(slide) as below:
        written = terminal.run(
            export_job,
            found,
            geojson=geojson,
            csv=csv,
            picture=picture,
            slide=below,
            min_area_px=min_area,
            simplify_px=simplify,
            overwrite=overwrite,
        )
    if geojson is not None:
        terminal.say(f"{written['features']} regions in {geojson}")
    if csv is not None:
        terminal.say(f"Areas in {csv}", area_table(written["areas"]))
    if picture is not None:
        terminal.say(f"Picture in {picture}")
    files = {"geojson": geojson, "csv": csv, "picture": picture}
    terminal.summary({"result": result, "mpp": found.mpp, **files, **written})
