"""Adding models to the user's registry, and taking them out."""

from __future__ import annotations

import re
from pathlib import Path

from napari_wsss.errors import CheckpointError, SettingsError
from napari_wsss.models.checkpoint import read_info
from napari_wsss.models.fetching import cached, download, file_sha256
from napari_wsss.models.info import ModelInfo
from napari_wsss.models.registry import (
    NAME_PATTERN,
    ModelEntry,
    RegisteredModel,
    find_model,
    registered_models,
    user_registry,
    write_registry,
)

__all__ = ["add_model", "remove_model"]


def add_model(
    name: str,
    source: str | Path,
    *,
    sha256: str | None = None,
    purpose: str = "",
    terms: str = "",
    card: str | Path | None = None,
) -> RegisteredModel:
    """Register a model under a name, which stands for it wherever a model file is asked for.

    Parameters
    ----------
    name
        Letters, digits, ``-`` and ``_``.
    source
        Checkpoint file, which stays where it is, or an ``http(s)`` address, which is
        downloaded now.
    sha256
        Checksum the file must have; by default that of the file as it is now.
    purpose
        What the model is for, in one line; made from its classes by default.
    terms
        Under which terms it may be used.
    card
        Markdown file that describes it.

    Raises
    ------
    SettingsError
        If the name is taken or no name, or the registry cannot be read.
    CheckpointError
        If the file is no model, is not the one the checksum is of, or cannot be had.
    OutputError
        If the registry cannot be written.
    """
    if not re.match(NAME_PATTERN, name):
        raise SettingsError(
            f"{name!r} is no name for a model: use letters, digits, '-' and '_', such as "
            "'breast-20x'."
        )
    taken = find_model(name)
    if taken is not None:
        hint = (
            "choose another name" if taken.shipped else "take it out first, with 'models remove'"
        )
        raise SettingsError(f"A model named {name!r} is registered already; {hint}.")
    if sha256 is not None:
        sha256 = sha256.lower().removeprefix("sha256:")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise SettingsError(f"{sha256!r} is no SHA-256, which has 64 digits 0-9 and a-f.")
    url = str(source) if str(source).startswith(("http://", "https://")) else None
    path = Path(source).expanduser().absolute() if url is None else download(name, url, sha256)
    info = read_info(path)
    found = file_sha256(path)
    if sha256 is not None and found != sha256:
        raise CheckpointError(
            f"{path} has another checksum than the one given: {found}. It is not registered."
        )
    if card is not None and not Path(card).expanduser().is_file():
        raise SettingsError(f"There is no model card {card}.")
    entry = ModelEntry(
        name=name,
        file=str(path) if url is None else None,
        url=url,
        sha256=found,
        kind=info.kind,
        purpose=purpose.strip() or _purpose(info),
        classes=info.class_table.names,
        mpp=info.mpp,
        terms=terms,
        card=None if card is None else str(Path(card).expanduser().absolute()),
    )
    registry = user_registry()
    write_registry(registry, [*_own_entries(), entry])
    return RegisteredModel(entry, registry, shipped=False)


def remove_model(name: str) -> None:
    """Take a model out of the user's registry; a file of the user stays where it is.

    Raises
    ------
    SettingsError
        If it is not in there.
    """
    own = _own_entries()
    kept = [entry for entry in own if entry.name != name]
    if len(kept) == len(own):
        raise SettingsError(f"{_unknown(name)} Nothing was changed.")
    write_registry(user_registry(), kept)
    gone = next(entry for entry in own if entry.name == name)
    if gone.url is not None:  # what was downloaded is ours
        cached(name, gone.sha256).unlink(missing_ok=True)


def _own_entries() -> list[ModelEntry]:
    return [model.entry for model in registered_models() if not model.shipped]


def _unknown(name: str) -> str:
    model = find_model(name)
    if model is not None and model.shipped:
        return f"The model {name!r} comes with the package and cannot be taken out."
    names = ", ".join(m.entry.name for m in registered_models()) or "none"
    return f"No model named {name!r} is registered (registered: {names})."


def _purpose(info: ModelInfo) -> str:
    mpp = "" if info.mpp is None else f" at {info.mpp:g} µm/px"
    return f"{', '.join(info.class_table.names)}{mpp}"
