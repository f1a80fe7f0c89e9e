"""A segmented slide on disk, and what it says of itself.

``NAME.ome.zarr`` is one OME-Zarr 0.5 image: the uncertainty pyramid at its root, the
segmentation at ``labels/segmentation``, and ``run.json`` with inputs, settings and outcome.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr

from napari_wsss.classes import ClassTable
from napari_wsss.errors import SlideError
from napari_wsss.files import write_atomic
from napari_wsss.inference.change import finish_change
from napari_wsss.slides import open_labels

__all__ = [
    "BACKGROUND",
    "JOURNAL_FILE",
    "LABELS",
    "MODEL_FILE",
    "NOT_COMPUTED",
    "RUN_FILE",
    "SlideSegmentation",
    "result_path",
]

LABELS = "labels/segmentation"
RUN_FILE = "run.json"
#: While a run is going on: what is done, and the model for workers on other machines.
JOURNAL_FILE, MODEL_FILE = "journal.jsonl", ".model.safetensors"
#: Stored labels: class index + 1, and two values that are no class.
BACKGROUND, NOT_COMPUTED = 0, 255


@dataclass(frozen=True, eq=False)
class SlideSegmentation:
    """The stored segmentation of one slide; make one with `segment_slide`.

    Attributes
    ----------
    path
        The ``.ome.zarr`` folder.
    labels
        (H, W) uint8 at the model's resolution, lazy: class index + 1, 0 background
        (no tissue), 255 not computed.
    classes
        Names and colours.
    mpp
        µm per label pixel; None if unknown.
    downsample
        Level-0 pixels of the slide per label pixel, (y, x).
    run
        What ``run.json`` says.
    """

    path: Path
    labels: zarr.Array
    classes: ClassTable
    mpp: float | None
    downsample: tuple[float, float]
    run: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Open a result.

        Raises
        ------
        SlideError
            If there is none, or it was not finished.
        OutputError
            If a correction of it was cut off, and the folder cannot be written to finish it.
        """
        path = Path(path)
        finish_change(path)
        run = read_run(path)
        if not run.get("complete"):
            raise SlideError(
                f"{path} is not finished. Segment the slide again with the same settings: it goes "
                "on where it stopped."
            )
        if run.get("kind") != "segmentation":
            raise SlideError(f"{path} holds {run.get('kind')}, not a segmentation.")
        stored = open_labels(path / LABELS)
        if stored.classes is None:
            raise SlideError(f"{path} does not name its classes; it is not a result of ours.")
        scale = run["downsample"]
        return cls(
            path,
            stored.levels[0],
            stored.classes,
            stored.mpp,
            (float(scale[0]), float(scale[1])),
            run,
        )

    @property
    def levels(self) -> tuple[zarr.Array, ...]:
        """The label pyramid, finest first."""
        return tuple(open_labels(self.path / LABELS).levels)

    def uncertainty(self) -> zarr.Array:
        """Return (H, W) uint8: normalised entropy times 254, lazy; 255 was not computed."""
        return zarr.open_array(str(self.path / "0"), mode="r")

    def summary(self) -> dict[str, Any]:
        """Return plain data: shape, µm/px, share and mm² per class, and blocks."""
        return dict(self.run["summary"])


def result_path(out_dir: Path, name: str) -> Path:
    """Return where the result of the slide called `name` is written."""
    return out_dir / f"{name}.ome.zarr"


def read_run(path: Path) -> dict[str, Any]:
    """Return the run record of a result; SlideError if it has none."""
    file = path / RUN_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SlideError(f"{path} is not a result of napari-wsss: it has no {RUN_FILE}.") from None
    except (OSError, ValueError) as error:
        raise SlideError(f"{file} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise SlideError(f"{file} is not a run record.")
    return record


def write_run(path: Path, record: Mapping[str, Any]) -> None:
    """Write the run record of a result, all or nothing."""
    write_atomic(path / RUN_FILE, run_bytes(record))


def run_bytes(record: Mapping[str, Any]) -> bytes:
    """Return a run record as it is stored."""
    return json.dumps(dict(record), indent=1).encode()


def class_shares(counts: np.ndarray, classes: ClassTable, pixel_mm2: float | None) -> list[dict]:
    """Return one row per class (and background) from counts of stored values."""
    tissue = int(counts[1 : len(classes) + 1].sum())
    rows = []
    for i, name in enumerate(("background", *classes.names)):
        pixels = int(counts[i])
        rows.append(
            {
                "class": name,
                "pixels": pixels,
                "share_of_tissue": None if i == 0 else pixels / tissue if tissue else 0.0,
                "area_mm2": None if pixel_mm2 is None else pixels * pixel_mm2,
            }
        )
    return rows
