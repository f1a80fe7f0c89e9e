"""Models by name: those that come with the package, and those a user has added.

Both registries are TOML files of the same form, one ``[[model]]`` table per model. The user's
lies in the folder of settings that the operating system provides, or where the environment
variable ``NAPARI_WSSS_MODELS`` says, so that a group can share one.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import platformdirs
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_wsss.errors import SettingsError, listed
from napari_wsss.files import write_atomic

__all__ = [
    "MODELS_VARIABLE",
    "NAME_PATTERN",
    "ModelEntry",
    "RegisteredModel",
    "find_model",
    "registered_models",
    "shipped_registry",
    "user_registry",
    "write_registry",
]

#: Environment variable that names another file in place of the user's registry.
MODELS_VARIABLE = "NAPARI_WSSS_MODELS"
#: Names have no dot and no slash, so that no file of a model can be taken for one.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"


class ModelEntry(BaseModel):
    """What a registry says of a model.

    Attributes
    ----------
    name
        By which it is asked for: letters, digits, ``-`` and ``_``.
    file, url
        Where it is, one of the two: a checkpoint file, relative to the registry or absolute,
        or an ``http(s)`` address that is downloaded once.
    sha256
        Checksum of the file.
    kind
        ``"segmenter"`` or ``"classifier"``.
    purpose
        What it is for, in one line.
    classes
        Names of its classes.
    mpp
        µm/px it was trained at; None if not known.
    terms
        Under which terms it, and the data it learnt from, may be used.
    card
        Markdown file that describes it, relative to the registry or absolute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME_PATTERN)
    file: str | None = None
    url: str | None = Field(None, pattern=r"^https?://\S+$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    kind: Literal["segmenter", "classifier"] = "segmenter"
    purpose: str = ""
    classes: tuple[str, ...] = ()
    mpp: float | None = Field(None, gt=0)
    terms: str = ""
    card: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise ValueError("give a file or an url, one of the two")
        return self


@dataclass(frozen=True)
class RegisteredModel:
    """A model and the registry that it is from.

    Attributes
    ----------
    entry
        What the registry says.
    registry
        Its file.
    shipped
        Whether it comes with the package.
    """

    entry: ModelEntry
    registry: Path
    shipped: bool

    @property
    def file(self) -> Path | None:
        """The checkpoint on this computer; None for one that is downloaded."""
        return None if self.entry.file is None else self.registry.parent / self.entry.file

    @property
    def card(self) -> Path | None:
        """The Markdown file that describes it, if one was given."""
        return None if self.entry.card is None else self.registry.parent / self.entry.card


def shipped_registry() -> Path:
    """Return the registry of the models that come with the package."""
    return Path(__file__).parent / "shipped" / "registry.toml"


def user_registry() -> Path:
    """Return the file of the user's registry, which need not exist."""
    given = os.environ.get(MODELS_VARIABLE)
    if given:
        return Path(given).expanduser()
    return platformdirs.user_config_path("napari-wsss", appauthor=False) / "models.toml"


def registered_models() -> tuple[RegisteredModel, ...]:
    """Return every model that can be asked for by name, those of the package first.

    A name that the user gave wins over one of the package: a later version that ships a model
    of that name does not change what the name means to the user.

    Raises
    ------
    SettingsError
        If a registry cannot be read; it names the file.
    """
    own = _read(user_registry(), shipped=False)
    taken = {model.entry.name for model in own}
    shipped = _read(shipped_registry(), shipped=True)
    return (*(model for model in shipped if model.entry.name not in taken), *own)


def find_model(name: str) -> RegisteredModel | None:
    """Return the model of that name; None if none is registered.

    Raises
    ------
    SettingsError
        As `registered_models`.
    """
    return next((model for model in registered_models() if model.entry.name == name), None)


def write_registry(path: Path, entries: list[ModelEntry]) -> None:
    """Write a registry, all or nothing.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    rows: list[dict[str, Any]] = [
        entry.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        for entry in entries
    ]
    write_atomic(path, tomli_w.dumps({"model": rows}).encode())


def _read(path: Path, *, shipped: bool) -> tuple[RegisteredModel, ...]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(
            f"The registry of models {path} cannot be read: {error}. Mend it, or move it away; "
            "models can be registered anew with 'napari-wsss models add'."
        ) from error
    rows = data.get("model", [])
    if not isinstance(rows, list) or set(data) - {"model"}:
        raise SettingsError(f"The registry of models {path} has to hold [[model]] tables only.")
    models, problems = [], []
    for number, row in enumerate(rows, 1):
        try:
            entry = ModelEntry.model_validate(row)
        except ValidationError as error:
            problems += [
                f"model {number}, {'.'.join(map(str, e['loc'])) or 'table'}: {e['msg']}"
                for e in error.errors()
            ]
            continue
        models.append(RegisteredModel(entry, path, shipped))
    names = [model.entry.name for model in models]
    problems += [f"{n} is there twice" for n in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise SettingsError(f"The registry of models {path} is not valid:{listed(problems)}")
    return tuple(models)
