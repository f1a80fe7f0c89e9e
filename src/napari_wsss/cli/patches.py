"""``patches from-masks`` and ``patches report``: making and looking over patch sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from napari_wsss.cli.console import Terminal
from napari_wsss.cli.errors import FAILED
from napari_wsss.cli.from_labels import from_labels
from napari_wsss.cli.options import Classes, Device, Json, Mpp, Overwrite, Quiet

__all__ = ["from_masks", "register", "report_set"]


class Split(StrEnum):
    """Splits of a patch set."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


class Glass(StrEnum):
    """What white pixels are."""

    AUTO = "auto"
    IGNORE = "ignore"
    TISSUE = "tissue"


Images = Annotated[
    Path, typer.Argument(metavar="IMAGES", help="Folder of images.", show_default=False)
]
Masks = Annotated[
    Path,
    typer.Argument(
        metavar="MASKS",
        help="Folder of masks with the names of the images.",
        show_default=False,
    ),
]
ClassFile = Annotated[
    Path,
    typer.Option(
        "--classes",
        metavar="FILE",
        help="classes.toml with the name, mask value and colour of every class.",
        show_default=False,
    ),
]
Out = Annotated[
    Path,
    typer.Option("--out", metavar="DIR", help="Folder to write.", show_default=False),
]
Size = Annotated[int, typer.Option("--size", metavar="PX", help="Side of a patch.")]
Stride = Annotated[int, typer.Option("--stride", metavar="PX", help="Step from patch to patch.")]
MinShare = Annotated[
    float,
    typer.Option(
        "--min-share",
        metavar="SHARE",
        help="A class is present if it covers this share of the patch.",
    ),
]
MaxIgnored = Annotated[
    float,
    typer.Option(
        "--max-ignored", metavar="SHARE", help="Leave out patches with more ignored pixels."
    ),
]
GlassKind = Annotated[
    Glass,
    typer.Option(
        "--glass",
        help="White pixels: no class ('ignore') or tissue ('tissue', for fat); 'auto' "
        "ignores them if the class table ignores any mask value.",
    ),
]
OneSplit = Annotated[
    Split | None,
    typer.Option("--split", help="Split that all patches belong to.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(
        help="Make patch sets, and look them over.",
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    group.command("from-masks")(from_masks)
    group.command("from-labels")(from_labels)
    group.command("report")(report_set)
    app.add_typer(group, name="patches")


def from_masks(
    images: Images,
    masks: Masks,
    classes: ClassFile,
    out: Out,
    size: Size = 112,
    stride: Stride = 56,
    min_share: MinShare = 0.05,
    max_ignored: MaxIgnored = 1.0,
    glass: GlassKind = Glass.AUTO,
    split: OneSplit = None,
    mpp: Mpp = None,
    overwrite: Overwrite = False,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Cut labelled patches from images with masks; the masks give labels per patch only."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.patches import CutRules, cut_patches_job

    rules = CutRules(
        size_px=size,
        stride_px=stride,
        min_share=min_share,
        mpp=mpp,
        glass=glass.value,
        max_ignored=max_ignored,
    )
    patches = terminal.run(
        cut_patches_job,
        images,
        masks,
        classes,
        out,
        rules,
        split=None if split is None else split.value,
        overwrite=overwrite,
    )
    per_class = dict(zip(patches.classes.names, patches.labels.sum(0).tolist(), strict=True))
    counts = ", ".join(f"{name} {n}" for name, n in per_class.items())
    terminal.say(f"{len(patches)} patches of {size} px in {out} ({counts})")
    terminal.summary(
        {
            "dataset": out,
            "patches": len(patches),
            "groups": len(set(patches.groups)),
            "classes": per_class,
            "single_label": int(patches.single_label.sum()),
            "size_px": size,
            "stride_px": stride,
            "min_share": min_share,
            "mpp": patches.mpp,
            "glass": patches.glass,
        }
    )


def report_set(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", help="Folder or table of labelled patches.", show_default=False
        ),
    ],
    masks: Annotated[
        Path | None,
        typer.Option("--masks", metavar="DIR", help="Masks to check, too.", show_default=False),
    ] = None,
    split: Annotated[
        Split | None, typer.Option("--split", help="Only this split.", show_default=False)
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Read the headers of the images only.")
    ] = False,
    check_labels: Annotated[
        bool,
        typer.Option(
            "--check-labels",
            help="Look for labels that patches of other images speak against (minutes).",
        ),
    ] = False,
    device: Device = "auto",
    classes: Classes = None,
    mpp: Mpp = None,
    json: Json = None,
    quiet: Quiet = False,
) -> None:
    """Report counts, problems and what to label next; fails if a set cannot be trained on."""
    terminal = Terminal(json, quiet=quiet)
    from napari_wsss.patches import load_patches, report_job

    patches = load_patches(
        dataset,
        classes=classes,
        mpp=mpp,
        split=None if split is None else split.value,
        masks=masks,
    )
    report = terminal.run(
        report_job, patches, deep=not quick, check_labels=check_labels, device=device
    )
    terminal.say(report.to_text())
    terminal.summary(report.to_dict())
    if report.errors:
        raise typer.Exit(FAILED)
