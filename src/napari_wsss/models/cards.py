"""Model cards: what a model is, what it learnt from, how well it does, when not to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_wsss.errors import CheckpointError, SettingsError
from napari_wsss.models.fetching import on_disk
from napari_wsss.models.registry import RegisteredModel, find_model, registered_models

if TYPE_CHECKING:
    from napari_wsss.models.info import ModelInfo

__all__ = ["model_card"]


def model_card(name: str) -> str:
    """Return what a model is, as Markdown; downloads nothing.

    Its card, or else what its file says, or else what the registry says.

    Raises
    ------
    SettingsError
        If no model of that name is registered, or the registry cannot be read.
    """
    model = find_model(name)
    if model is None:
        names = ", ".join(m.entry.name for m in registered_models()) or "none"
        raise SettingsError(f"No model named {name!r} is registered (registered: {names}).")
    card = model.card
    if card is not None and card.is_file():
        return card.read_text(encoding="utf-8")
    return _generated(model, _info(model))


def _info(model: RegisteredModel) -> ModelInfo | None:
    """Return the header of its file; None if that is not at hand."""
    path = on_disk(model)
    if path is None:
        return None
    from napari_wsss.models.checkpoint import read_info

    try:
        return read_info(path)
    except CheckpointError:
        return None


def _generated(model: RegisteredModel, info: ModelInfo | None) -> str:
    entry = model.entry
    rows = [
        ("for", entry.purpose),
        ("classes", ", ".join(entry.classes)),
        ("µm/px", "not known" if entry.mpp is None else f"{entry.mpp:g}"),
        ("terms", entry.terms or "not said"),
        ("from", entry.url or str(model.file)),
        ("sha256", entry.sha256),
    ]
    if info is None:
        rows.append(("file", "not on this computer"))
    else:
        rows += [
            ("kind", f"{info.kind}, learned from {info.supervision}"),
            ("patches", f"{info.patch_size_px} px"),
            ("encoder", info.encoder.name),
        ]
        rows += [(f"held out: {key}", f"{value:.3f}") for key, value in info.metrics.items()]
    table = "\n".join(f"| {key} | {value} |" for key, value in rows)
    return (
        f"# {entry.name}\n\nThis model was registered without a model card. What is known of "
        f"it:\n\n| | |\n|---|---|\n{table}\n\n*Held out* are figures of patches that were kept "
        "from its training, measured while it was trained. How well it does on slides of "
        "another laboratory has to be measured: `napari-wsss evaluate`.\n"
    )
