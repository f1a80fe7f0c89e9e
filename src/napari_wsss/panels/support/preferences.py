"""The plugin's preferences, as napari keeps them (File > Preferences, napari 0.9 and later)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["Preferences", "preferences"]

_PLUGIN = "napari-wsss"


@dataclass(frozen=True)
class Preferences:
    """What a user chose once for all panels.

    Attributes
    ----------
    cores_left
        Cores of the processor that jobs leave to the viewer.
    device
        Where networks compute: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    work_folder
        Where panels suggest to save; it need not exist yet.
    """

    cores_left: int = 1
    device: str = "auto"
    work_folder: Path = Path("~/napari-wsss")

    def __post_init__(self) -> None:
        object.__setattr__(self, "work_folder", self.work_folder.expanduser())


def preferences() -> Preferences:
    """Return the preferences as they are now; the defaults where napari keeps none.

    Older napari has no preferences of plugins, and none are kept for a plugin that runs
    without having been installed.
    """
    kept = _kept()
    if kept is None:
        return Preferences()
    chosen = Preferences(cores_left=kept.computing.cores_left, device=kept.computing.device)
    folder = kept.files.work_folder.strip()
    return replace(chosen, work_folder=Path(folder)) if folder else chosen


def _kept() -> Any:
    """Return napari's model of our preferences; None if it has none."""
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    try:
        return get_plugin_settings(_PLUGIN)
    except KeyError:
        return None
