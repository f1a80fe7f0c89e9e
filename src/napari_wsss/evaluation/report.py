"""One self-contained HTML page about a run: tables, pictures and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss import __version__
from napari_wsss.classes import ClassTable
from napari_wsss.errors import DataError
from napari_wsss.evaluation.figures import curve_uri, panel_uri, picture_uri
from napari_wsss.evaluation.protocols import Evaluation, Protocol, ProtocolResult
from napari_wsss.evaluation.reliability_figure import reliability_uri
from napari_wsss.evaluation.render import legend
from napari_wsss.evaluation.uncertainty import Reliability
from napari_wsss.files import atomic_write

__all__ = ["Curve", "Example", "write_report"]

_PROTOCOLS = {
    Protocol.PREDICTED_GATE: (
        "Predicted gate",
        "The model itself decides which classes a window holds, as in use.",
    ),
    Protocol.ORACLE_LABELS: (
        "Oracle labels",
        "The true patch labels decide: an upper bound, not reached in use.",
    ),
}


@dataclass(frozen=True)
class Example:
    """One image with what was made of it.

    Attributes
    ----------
    name
        Shown as its heading.
    image
        Shape (H, W, 3), uint8.
    panels
        Per caption, in order: a mask of class indices (H, W) of integers, a map
        (H, W) of floats between 0 and 1, or a picture (H, W, 3) uint8.
    """

    name: str
    image: NDArray[np.uint8]
    panels: Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Curve:
    """Values over epochs, or over any count from 1.

    Attributes
    ----------
    title
        Shown above the plot.
    x_label
        Name of the horizontal axis.
    series
        Values per line.
    """

    title: str
    x_label: str
    series: Mapping[str, Sequence[float]]


def write_report(
    out: str | Path,
    *,
    title: str,
    classes: ClassTable,
    summary: str = "",
    comparison: Sequence[Mapping[str, Any]] = (),
    evaluations: Mapping[str, Evaluation] | None = None,
    examples: Sequence[Example] = (),
    curves: Sequence[Curve] = (),
    facts: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Write ``report.html``: one file that needs neither network nor other files.

    Parameters
    ----------
    out
        Folder of the report; made if there is none.
    title
        Heading of the page.
    classes
        Classes of all masks on the page.
    summary
        A paragraph below the heading; blank lines separate paragraphs.
    comparison
        Rows of a table; the first row's keys are its columns. Numbers are shown with
        three decimals, None and NaN as a dash.
    evaluations
        Measurements per name; both protocols are shown side by side.
    examples
        Images with masks and maps.
    curves
        Line plots.
    facts
        Names and values of what the run depended on, at the end of the page.
    overwrite
        Whether a report that is there may be replaced.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    OutputError
        If the file cannot be written, or exists and `overwrite` is false.
    DataError
        If a panel is neither mask, map nor picture, naming the example.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("napari_wsss", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["value"] = _value
    page = environment.get_template("report.html.j2").render(
        title=title,
        paragraphs=[p for p in summary.split("\n\n") if p.strip()],
        legend=legend(classes),
        columns=list(comparison[0]) if comparison else [],
        numeric=_numeric(comparison),
        comparison=comparison,
        evaluations={
            name: _evaluation(evaluation) for name, evaluation in (evaluations or {}).items()
        },
        examples=[_example(example, classes) for example in examples],
        curves=[_curve(curve) for curve in curves],
        facts=facts or {},
        version=__version__,
    )
    path = Path(out) / "report.html"
    with atomic_write(path, overwrite=overwrite) as file:
        file.write(page.encode())
    return path


def _value(value: Any) -> str:
    """Format a cell: numbers with three decimals, nothing known as a dash."""
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float | np.floating):
        return f"{value:.3f}"
    return str(value)


def _numeric(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the columns without text, whose cells are set to the right."""
    columns = set(rows[0]) if rows else set()
    return {c for c in columns if not any(isinstance(row.get(c), str) for row in rows)}


def _evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return what the template shows of one evaluation."""
    names = evaluation.classes.names
    return {
        "conditions": evaluation.conditions,
        "protocols": [
            {"label": label, "note": note, **_protocol(evaluation[protocol], names)}
            for protocol, (label, note) in _PROTOCOLS.items()
        ],
        "classes": [
            {
                "name": c.name,
                "color": c.color,
                "support": evaluation[Protocol.PREDICTED_GATE].scores.support[c.name],
                "protocols": [_class_row(evaluation[p], c.name) for p in _PROTOCOLS],
            }
            for c in evaluation.classes.classes
        ],
        "reliability": _reliability(evaluation.reliability),
    }


def _reliability(found: Reliability | None) -> dict[str, Any] | None:
    """Return what the template shows of the uncertainty; None if it was not measured."""
    if found is None or math.isnan(found.aurc):
        return None
    numbers = {
        "Errors among the most uncertain tenth of the pixels": found.errors_found(),
        "Area under risk against coverage (AURC)": found.aurc,
        "AURC of an order by chance": found.error_rate,
        "AURC of the best order": found.aurc_best,
        "Expected calibration error": found.ece,
        "Temperature of the model": found.temperature,
    }
    return {
        "numbers": numbers,
        "intervals": {
            "Area under risk against coverage (AURC)": found.aurc_interval95,
            "Expected calibration error": found.ece_interval95,
        },
        "light": reliability_uri(found, "light"),
        "dark": reliability_uri(found, "dark"),
    }


def _protocol(result: ProtocolResult, names: tuple[str, ...]) -> dict[str, Any]:
    fractions = result.matrix.normalized()
    missed = bool(result.matrix.counts[:, -1].any())
    return {
        "means": {
            "Mean IoU": result.scores.miou,
            "Frequency weighted IoU": result.scores.fwiou,
            "Pixel accuracy": result.scores.accuracy,
            "Mean Dice": result.scores.mean_dice,
        },
        "interval": result.interval95,
        "n_images": result.n_images,
        "n_pixels": result.matrix.n_pixels,
        "confusion_columns": [*names, *(["no class"] if missed else [])],
        "confusion": [
            (name, [float(v) for v in row[: len(names) + missed]])
            for name, row in zip(names, fractions, strict=True)
        ],
    }


def _class_row(result: ProtocolResult, name: str) -> dict[str, Any]:
    return {
        "iou": result.scores.iou[name],
        "dice": result.scores.dice[name],
        "interval": result.iou_interval95[name],
    }


def _example(example: Example, classes: ClassTable) -> dict[str, Any]:
    try:
        panels = [("Image", picture_uri(example.image))]
        panels += [(caption, panel_uri(p, classes)) for caption, p in example.panels.items()]
    except DataError as error:
        raise DataError(f"Example {example.name!r} cannot be shown: {error}") from error
    return {"name": example.name, "panels": panels}


def _curve(curve: Curve) -> dict[str, Any]:
    """Return both themes' pictures and the last values, which stand in for the picture."""
    last = [f"{name} {_value(float(v[-1]))}" for name, v in curve.series.items() if len(v)]
    return {
        "title": curve.title,
        "light": curve_uri(curve.series, curve.x_label, "light"),
        "dark": curve_uri(curve.series, curve.x_label, "dark"),
        "alt": f"{curve.title} over {curve.x_label}. Last values: {', '.join(last) or 'none'}.",
    }
