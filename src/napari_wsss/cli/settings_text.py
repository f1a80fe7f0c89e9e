"""Settings as text: a commented TOML file, and the list below a command's help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from typer.core import TyperCommand

__all__ = ["commented_toml", "settings_help", "with_settings"]


def commented_toml(stage: str) -> str:
    """Return the defaults of a stage as TOML, each under the sentence that explains it.

    Parameters
    ----------
    stage
        One of `napari_wsss.cli.stages.Stage`.
    """
    import tomli_w

    from napari_wsss.cli.stages import MODELS, Stage, field_rows

    lines = [f"# Settings of the stage '{stage}' with their defaults."]
    table = ""
    for name, default, description, schema in field_rows(MODELS[Stage(stage)]):
        parent, _, key = name.rpartition(".")
        if parent != table:
            lines += ["", f"[{parent}]"]
            table = parent
        lines += ["", *_comment(description, schema)]
        value = list(default) if isinstance(default, tuple) else default
        lines.append(_one_line(tomli_w.dumps({key: value})))
    return "\n".join(lines) + "\n"


def settings_help(stage: str) -> str:
    """Return every setting of a stage with its default, a paragraph each."""
    from napari_wsss.cli.stages import MODELS, Stage, field_rows

    rows = [
        f"{name} = {_plain(default)}: {description}"
        for name, default, description, _ in field_rows(MODELS[Stage(stage)])
    ]
    head = f"Settings (--set KEY=VALUE, or a file that 'napari-wsss settings {stage}' begins):"
    # Brackets would be taken for markup.
    return "\n\n".join([head, *rows]).replace("[", "\\[")


def with_settings(stage: str) -> type[TyperCommand]:
    """Return a command class whose help ends with the settings of `stage`.

    They are put together when the help is asked for, so that other commands do not wait.
    """

    class SettingsCommand(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            self.epilog = settings_help(stage)
            super().format_help(ctx, formatter)

    return SettingsCommand


def _comment(description: str, schema: Mapping[str, Any]) -> Iterator[str]:
    import textwrap

    limits = ", ".join(_limits(schema))
    text = f"{description} ({limits})" if limits else description
    yield from (f"# {line}" for line in textwrap.wrap(text, 94))


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield the choices and bounds of a JSON schema in words."""
    for option in (schema, *schema.get("anyOf", ())):
        if "enum" in option:
            yield "one of " + ", ".join(str(choice) for choice in option["enum"])
        elif "const" in option:
            yield str(option["const"])
        words = {
            "minimum": "at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }
        yield from (f"{word} {option[k]:g}" for k, word in words.items() if k in option)


def _one_line(text: str) -> str:
    """Return an array that tomli_w broke over several lines as one line."""
    return " ".join(text.split()).replace("[ ", "[").replace(", ]", "]")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value)
