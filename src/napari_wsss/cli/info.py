"""``info`` and ``settings``: what is installed, and what can be set."""

from __future__ import annotations

import importlib.util
import platform
from importlib import metadata
from typing import Annotated, Any

import typer

from napari_wsss import __version__
from napari_wsss.cli.console import STDOUT, Terminal
from napari_wsss.cli.settings_text import commented_toml

__all__ = ["collect", "info", "print_settings", "register"]

#: Optional packages: import name -> (distribution, what to install, what it is for).
_OPTIONAL = {
    "openslide": (
        "openslide-python",
        "napari-wsss[openslide]",
        "NDPI, MRXS, SCN, BIF and other scanners' formats",
    ),
    "napari": ("napari", "napari-wsss[all]", "viewing slides and results"),
}
_STAGES = ("pretrain", "classifier", "pseudo-masks", "segmenter", "inference", "evaluation")


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("info")(info)
    app.command("settings")(print_settings)


def info(
    json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Show versions, the device that computes, optional parts and packaged encoders."""
    found = collect()
    terminal = Terminal(STDOUT if json else None)
    terminal.summary(found)
    from napari_wsss.cli.tables import pairs_table

    shown = {key: value for key, value in found.items() if not isinstance(value, dict | list)}
    for name, optional in found["optional"].items():
        state = optional["version"] or f"missing: pip install '{optional['install']}'"
        shown[name] = f"{state} ({optional['for']})"
    for name, installed in found["packaged_encoders"].items():
        shown[f"encoder {name}"] = "weights installed" if installed else "weights not installed"
    terminal.say(pairs_table(shown))


def collect() -> dict[str, Any]:
    """Return what ``info`` shows, as plain data."""
    import timm
    import torch

    from napari_wsss.models.device import choose_device, describe_device, uses_bf16
    from napari_wsss.models.weights import PACKAGED

    device = choose_device("auto")
    return {
        "napari-wsss": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "device": device.type,
        "device_name": describe_device(device),
        "precision": "bf16" if uses_bf16(device) else "fp32",
        "optional": {
            module: {"version": _version(module, package), "install": install, "for": purpose}
            for module, (package, install, purpose) in _OPTIONAL.items()
        },
        "packaged_encoders": {
            name: importlib.util.find_spec(module) is not None
            for name, (module, _) in PACKAGED.items()
        },
    }


def print_settings(
    stage: Annotated[
        str,
        typer.Argument(metavar="STAGE", help=f"One of: {', '.join(_STAGES)}.", show_default=False),
    ],
) -> None:
    """Print the settings of a stage with their defaults as a commented TOML file."""
    if stage not in _STAGES:
        raise typer.BadParameter(f"{stage!r} is not one of {', '.join(_STAGES)}")
    typer.echo(commented_toml(stage), nl=False)


def _version(module: str, package: str) -> str | None:
    """Return the version of an optional package, or None if it cannot be imported."""
    if importlib.util.find_spec(module) is None:
        return None
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown version"
