"""The settings of the stages on the command line: read, changed, explained and printed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from napari_wsss.errors import SettingsError, listed
from napari_wsss.recipes import recipe as named
from napari_wsss.settings import (
    ClassifierSettings,
    EvaluationSettings,
    InferenceSettings,
    PretrainSettings,
    PseudoMaskSettings,
    SegmenterSettings,
    Settings,
)

__all__ = ["MODELS", "Stage", "field_rows", "merged_values", "read_settings", "validated"]

S = TypeVar("S", bound=Settings)


class Stage(StrEnum):
    """Stages that have settings."""

    PRETRAIN = "pretrain"
    CLASSIFIER = "classifier"
    PSEUDO_MASKS = "pseudo-masks"
    SEGMENTER = "segmenter"
    INFERENCE = "inference"
    EVALUATION = "evaluation"


MODELS: Mapping[Stage, type[Settings]] = {
    Stage.PRETRAIN: PretrainSettings,
    Stage.CLASSIFIER: ClassifierSettings,
    Stage.PSEUDO_MASKS: PseudoMaskSettings,
    Stage.SEGMENTER: SegmenterSettings,
    Stage.INFERENCE: InferenceSettings,
    Stage.EVALUATION: EvaluationSettings,
}


def read_settings(
    model: type[S],
    file: Path | None,
    changes: Sequence[str] | None,
    seed: int | None = None,
    recipe: str | None = None,
) -> S:
    """Return the settings of a command: recipe, then the file, then changes and seed.

    Parameters
    ----------
    model
        Settings model of the stage.
    file
        TOML file, or None.
    changes
        ``"key=value"`` with dots for nested keys; values are TOML, or text.
    seed
        Overrules all of them, if given.
    recipe
        What they begin with; by default the defaults.

    Raises
    ------
    SettingsError
        Naming every key that is unknown and every value that does not fit.
    """
    values = merged_values(file, changes)
    if seed is not None:
        values["seed"] = seed
    if recipe is not None:
        stage = next(stage for stage, of in MODELS.items() if of is model)
        values = named(recipe).with_values(stage.replace("-", "_"), values)
    return validated(model, values, file)


def merged_values(file: Path | None, changes: Sequence[str] | None) -> dict[str, Any]:
    """Return the values of a TOML file with ``key=value`` changes put over them."""
    values = {} if file is None else _read_toml(file)
    for change in changes or ():
        key, sign, text = change.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not sign or not all(parts):
            raise SettingsError(
                f"--set {change}: write it as KEY=VALUE, such as --set encoder.output_stride=8."
            )
        table = values
        for part in parts[:-1]:
            inner = table.get(part)
            table[part] = dict(inner) if isinstance(inner, dict) else {}
            table = table[part]
        table[parts[-1]] = _value(text.strip())
    return values


def validated(model: type[S], values: Mapping[str, Any], file: Path | None = None) -> S:
    """Return `values` as settings; unknown names are met with the nearest known ones."""
    known = [name for name, *_ in field_rows(model)]
    unknown = list(_unknown(model, values))
    if unknown:
        rows = []
        for name in unknown:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            rows.append(name + (f" (did you mean {near[0]}?)" if near else ""))
        where = f" in {file}" if file is not None else ""
        raise SettingsError(
            f"These settings are not known{where}:{listed(rows)}\n"
            "'napari-wsss settings STAGE' prints all there are."
        )
    source = "The settings" if file is None else f"The settings of {file} and --set"
    return model.from_dict(values, f"{source} are")


def field_rows(
    model: type[Settings], prefix: str = ""
) -> Iterator[tuple[str, Any, str, dict[str, Any]]]:
    """Yield (dotted name, default, description, JSON schema) of every field."""
    properties = model.model_json_schema()["properties"]
    nested = []
    for name, field in model.model_fields.items():
        if isinstance(field.default, Settings):
            nested.append((name, type(field.default)))
        else:
            default = field.default
            yield f"{prefix}{name}", default, field.description or "", properties[name]
    for name, inner in nested:
        yield from field_rows(inner, f"{prefix}{name}.")


def _unknown(model: type[Settings], values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        field = model.model_fields.get(key)
        if field is None:
            yield f"{prefix}{key}"
        elif isinstance(field.default, Settings) and isinstance(value, Mapping):
            yield from _unknown(type(field.default), value, f"{prefix}{key}.")


def _value(text: str) -> Any:
    """Return `text` as a TOML value, or as it is where it is none."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"There is no settings file {path}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read as TOML: {error}") from error
