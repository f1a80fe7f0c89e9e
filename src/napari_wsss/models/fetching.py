"""From the name of a model to its file: looked up, downloaded once if need be, and checked."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from napari_wsss.errors import CheckpointError, OutputError
from napari_wsss.models.registry import (
    NAME_PATTERN,
    RegisteredModel,
    find_model,
    registered_models,
)

__all__ = ["cached", "download", "fetch", "file_sha256", "model_file", "models_cache", "on_disk"]

_TIMEOUT_S = 20


def model_file(model: str | Path) -> Path:
    """Return the checkpoint file that `model` stands for.

    Parameters
    ----------
    model
        A file, or the name of a registered model; a file of that name comes first.

    Raises
    ------
    CheckpointError
        If it is neither; if a registered file was moved or changed; if a download fails.
    SettingsError
        If a registry cannot be read.
    """
    path = Path(model)
    if path.is_file():
        return path
    name = str(model)
    if not re.match(NAME_PATTERN, name):
        raise CheckpointError(f"There is no model file {path}.")
    found = find_model(name)
    if found is None:
        names = ", ".join(m.entry.name for m in registered_models()) or "none"
        raise CheckpointError(
            f"There is no model file {path}, and no model of that name is registered "
            f"(registered: {names}). 'napari-wsss models add {name} FILE' registers one."
        )
    return fetch(found)


def fetch(model: RegisteredModel) -> Path:
    """Return the file of a registered model, with the bytes that were registered.

    Raises
    ------
    CheckpointError
        If the file is gone or another one, or cannot be downloaded.
    """
    entry = model.entry
    if entry.url is not None:
        return download(entry.name, entry.url, entry.sha256)
    path = model.file
    assert path is not None
    again = f"'napari-wsss models remove {entry.name}' and 'models add {entry.name} FILE'"
    if not path.is_file():
        raise CheckpointError(
            f"The model {entry.name!r} is registered as {path}, but there is no such file: it "
            f"was moved or deleted. Put it back, or register it where it is now with {again}."
        )
    if file_sha256(path) != entry.sha256:
        raise CheckpointError(
            f"{path} is not the file that was registered as {entry.name!r}: its checksum "
            f"differs. If it was changed on purpose, register it anew with {again}; else copy "
            "it again."
        )
    return path


def download(name: str, url: str, sha256: str | None) -> Path:
    """Return the file at `url`, downloaded at first and kept.

    Parameters
    ----------
    name
        Of the model.
    url
        ``http(s)`` address.
    sha256
        Of the file; None takes what comes.

    Raises
    ------
    CheckpointError
        Without a connection, or if what comes has another checksum.
    OutputError
        If the cache cannot be written.
    """
    import pooch
    import requests

    cache = models_cache()
    # What is not known yet is downloaded anew each time.
    target = cache / f"{name}-{uuid4().hex}.part" if sha256 is None else cached(name, sha256)
    try:
        pooch.retrieve(
            url,
            known_hash=None if sha256 is None else f"sha256:{sha256}",
            fname=target.name,
            path=cache,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S),
        )
        if sha256 is None:
            target = target.replace(cached(name, file_sha256(target)))
    except requests.RequestException as error:
        raise CheckpointError(
            f"The model {name!r} could not be downloaded from {url}: {_reason(error)}. Without "
            "internet, download this address on another computer, carry the file over, and give "
            f"it in place of the name, or register it with 'napari-wsss models add {name} FILE'."
        ) from error
    except ValueError as error:  # what pooch raises for another hash
        raise CheckpointError(
            f"What came from {url} is not the model {name!r} as it was registered: its checksum "
            "differs, and it was not kept. Try again, or ask whoever gave you the address and "
            "the checksum."
        ) from error
    except OSError as error:
        raise OutputError(f"The model {name!r} cannot be saved in {cache}: {error}") from error
    return target


def on_disk(model: RegisteredModel) -> Path | None:
    """Return the file of a model if it is on this computer, as it is; downloads nothing."""
    path = model.file or cached(model.entry.name, model.entry.sha256)
    return path if path.is_file() else None


def cached(name: str, sha256: str) -> Path:
    """Return where the download of a model is kept."""
    return models_cache() / f"{name}-{sha256[:12]}.safetensors"


def models_cache() -> Path:
    """Return the folder of downloaded models."""
    import pooch

    return Path(pooch.os_cache("napari-wsss")) / "models"


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file; CheckpointError if it cannot be read."""
    import pooch

    try:
        return str(pooch.file_hash(str(path), alg="sha256"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _reason(error: Exception) -> str:
    """Return why a download failed, without the library's chain of causes."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return f"there was no answer within {_TIMEOUT_S} s"
    return "there is no connection to it"
