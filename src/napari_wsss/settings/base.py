"""What all settings are: frozen, without unknown fields, readable from TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from napari_wsss.errors import SettingsError, listed

__all__ = ["Settings"]


class Settings(BaseModel):
    """Base class: frozen, no unknown fields, readable from TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "settings") -> Self:
        """Validate `data`; SettingsError names every field that does not fit."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            rows = [
                f"{'.'.join(str(part) for part in e['loc']) or 'settings'}: {e['msg']}"
                for e in error.errors()
            ]
            raise SettingsError(f"{where} not valid:{listed(rows)}") from None

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file; SettingsError if it is missing, malformed or out of bounds."""
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(f"There is no settings file {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
        return cls.from_dict(data, str(path))

    def changed(self, **values: Any) -> Self:
        """Return a copy with `values` replaced, validated anew; None leaves a field as it is."""
        given = {k: v for k, v in values.items() if v is not None}
        return type(self).from_dict({**self.model_dump(), **given})
