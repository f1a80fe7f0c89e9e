"""``segment``, ``maps`` and ``convert``: work on whole slides."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.errors import FAILED, print_message
from napari_wsss.cli.options import (
    Changes,
    Device,
    Json,
    ModelMpp,
    Mpp,
    Overwrite,
    Quiet,
    SettingsFile,
)
from napari_wsss.cli.settings_text import with_settings
from napari_wsss.errors import CancelledError, OutputError, SettingsError, WsssError, listed

if TYPE_CHECKING:
    from napari_wsss.inference import Cluster
    from napari_wsss.models.depths import Depth
    from napari_wsss.slides import Slide

__all__ = ["convert", "map_slides", "register", "segment", "verify"]

Slides = Annotated[
    list[Path],
    typer.Argument(
        metavar="SLIDE",
        help="Slides: SVS, NDPI, MRXS, TIFF, OME-TIFF, OME-Zarr, PNG, JPEG ...",
        show_default=False,
    ),
]
ResultsOut = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="Folder of the results, one per slide.", show_default=False
    ),
]
Workers = Annotated[
    int,
    typer.Option(
        "--workers",
        min=0,
        metavar="N",
        help="Share the blocks among N processes of this machine; 0 works in this one.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Share the blocks among the workers of a dask scheduler, such as tcp://node7:8786.",
        show_default=False,
    ),
]
MapDepth = Annotated[
    str | None,
    typer.Option(
        "--depth",
        metavar="N",
        help="Map of one class head: 1 (shallowest) to the number of depths, or -1 (deepest), -2 "
        "...; 'joint' is the joint head. Left out, the classifier's own map: of the joint head, "
        "else the mean of all heads.",
        show_default=False,
    ),
]
#: What is done to one slide: (path) -> summary.
_Work = Callable[["Slide"], dict[str, Any]]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("segment", cls=with_settings("inference"))(segment)
    app.command("maps", cls=with_settings("inference"))(map_slides)
    app.command("verify")(verify)
    app.command("convert")(convert)


def segment(
    slides: Slides,
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Trained segmenter, a file or a name that 'models' lists; of a classifier, "
            "its maps alone decide.",
            show_default=False,
        ),
    ],
    out: ResultsOut,
    mpp: Mpp = None,
    model_mpp: ModelMpp = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Segment slides into DIR/NAME.ome.zarr: labels, uncertainty, and areas per class."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import InferenceSettings

    values = read_settings(InferenceSettings, settings, changes)
    from napari_wsss.cli.tables import area_table
    from napari_wsss.inference import RunOptions, segment_job
    from napari_wsss.models import load_model

    network = load_model(model)

    with _workers(workers, scheduler) as cluster:
        options = RunOptions(
            model_mpp=model_mpp, device=device, overwrite=overwrite, cluster=cluster
        )

        def work(slide: Slide) -> dict[str, Any]:
            result = terminal.run(segment_job, slide, network, out, values, options)
            summary = result.summary()
            terminal.say(str(result.path), area_table(summary["classes"]))
            return {"result": result.path, **summary}

        _each(terminal, slides, mpp, work)


def map_slides(
    slides: Slides,
    classifier: Annotated[
        Path,
        typer.Option(
            "--classifier", metavar="MODEL", help="Trained classifier.", show_default=False
        ),
    ],
    out: ResultsOut,
    depth: MapDepth = None,
    mpp: Mpp = None,
    model_mpp: ModelMpp = None,
    settings: SettingsFile = None,
    changes: Changes = None,
    device: Device = "auto",
    overwrite: Overwrite = False,
    workers: Workers = 0,
    scheduler: Scheduler = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Write the classifier's activation maps of slides to DIR/NAME-maps.ome.zarr.

    Those of one depth go to DIR/NAME-maps-depth-N.ome.zarr.
    """
    terminal = Terminal(json, quiet=quiet)
    chosen = _depth(depth)
    from napari_wsss.cli.stages import read_settings
    from napari_wsss.settings import InferenceSettings

    values = read_settings(InferenceSettings, settings, changes)
    from napari_wsss.inference import RunOptions, map_job
    from napari_wsss.models import load_classifier
    from napari_wsss.models.depths import depth_number

    network = load_classifier(classifier)
    number = depth_number(network, chosen)  # said once, not for each slide

    with _workers(workers, scheduler) as cluster:
        options = RunOptions(
            model_mpp=model_mpp, device=device, overwrite=overwrite, cluster=cluster
        )

        def work(slide: Slide) -> dict[str, Any]:
            result = terminal.run(map_job, slide, network, out, values, options, depth=number)
            terminal.say(str(result.path))
            return {"result": result.path, **result.summary()}

        _each(terminal, slides, mpp, work)


def verify(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULT", help="Results: NAME.ome.zarr folders.", show_default=False
        ),
    ],
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Check that no bit of finished results has changed since they were written."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.inference import verify_job

    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for path in results:
        try:
            problems = terminal.run(verify_job, path)
        except CancelledError:
            raise
        except WsssError as error:
            problems = [str(error)]
        done.append({"result": path, "problems": problems})
        if problems:
            failed.append(f"{path}:{listed(problems)}")
        else:
            terminal.say(f"{path}: unchanged")
    terminal.summary({"results": done, "failed": len(failed)})
    if failed:
        print_message("Error", "\n".join(failed), "red")
        raise typer.Exit(FAILED)


def convert(
    slide: Annotated[
        Path, typer.Argument(metavar="SLIDE", help="Slide to convert.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Folder to write: itself if its name ends with .zarr, else DIR/NAME.ome.zarr.",
            show_default=False,
        ),
    ],
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Convert a slide of any format to an OME-Zarr 0.5 pyramid."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.slides import convert_job, open_slide

    with open_slide(slide, mpp=mpp) as source:
        path = out if out.suffix == ".zarr" else out / f"{source.name}.ome.zarr"
        terminal.run(convert_job, source, path, overwrite=overwrite)
        terminal.say(str(path))
        terminal.summary(
            {"slide": slide, "result": path, "shape": source.shape, "mpp": source.mpp}
        )


def _depth(text: str | None) -> Depth | None:
    if text is None or text == "joint":
        return text  # type: ignore[return-value]
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--depth is a number or 'joint', not {text!r}.") from None


def _workers(workers: int, scheduler: str | None) -> AbstractContextManager[Cluster | None]:
    """Return the cluster that is asked for, None for this process."""
    from napari_wsss.inference import Cluster

    if workers and scheduler:
        raise SettingsError("Give --workers or --scheduler, not both.")
    if scheduler:
        return Cluster.connect(scheduler)
    return Cluster.local(workers) if workers else nullcontext()


def _each(terminal: Terminal, slides: list[Path], mpp: float | None, work: _Work) -> None:
    """Open every slide and do `work`; a failure does not keep the others from being done."""
    from napari_wsss.slides import open_slide

    _check_names(slides)
    done: list[dict[str, Any]] = []
    failed: list[str] = []
    for path in slides:
        try:
            with open_slide(path, mpp=mpp) as slide:
                done.append({"slide": path, **work(slide)})
        except CancelledError:
            raise
        except WsssError as error:
            done.append({"slide": path, "error": str(error)})
            failed.append(f"{path}: {error}" if str(path) not in str(error) else str(error))
            if len(slides) > 1:
                print_message("Failed", f"{path}; going on with the others.", "yellow")
    terminal.summary({"slides": done, "failed": len(failed)})
    if not failed:
        return
    if len(slides) == 1:
        print_message("Error", failed[0], "red")
    else:
        text = f"{len(failed)} of {len(slides)} slides failed:{listed(failed, len(failed))}"
        print_message("Error", text, "red")
    raise typer.Exit(FAILED)


def _check_names(slides: list[Path]) -> None:
    """Refuse slides whose results would have the same name, before any work is done."""
    names = [path.stem.removesuffix(".ome") for path in slides]
    twice = [path for path, name in zip(slides, names, strict=True) if names.count(name) > 1]
    if twice:
        raise OutputError(
            "These slides have the same name, and their results would be written to the same "
            f"place:{listed(twice)}\nGive them to separate runs with different --out folders."
        )
