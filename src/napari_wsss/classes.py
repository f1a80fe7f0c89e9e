"""The class table: names, colours and mask values of the tissue classes, in one place.

Inside the package a mask is an array of class *indices* (0 ... K-1) with `IGNORE` for
pixels that are no class. Files use the *values* of the table, which may be anything a
byte can hold. Stored segmentations of slides use `index + 1`, so that 0 stays the
background that viewers leave transparent, and 255 marks what was not computed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_wsss.errors import DataError, listed

__all__ = ["IGNORE", "MAX_CLASSES", "PALETTE", "ClassInfo", "ClassTable"]

#: Index of pixels that are no class: left out of every loss and every metric.
IGNORE = 255
#: Largest number of classes that fits a byte beside background and "not computed".
MAX_CLASSES = 254
#: Colours told apart by colour-blind people too (Okabe and Ito 2008), strongest first.
PALETTE = (
    "#d55e00",
    "#009e73",
    "#0072b2",
    "#f0e442",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#999999",
)
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class ClassInfo:
    """One tissue class.

    Attributes
    ----------
    name
        Name, unique within its table.
    color
        ``"#rrggbb"``.
    value
        Pixel value of the class in mask files; None for sets without masks.
    """

    name: str
    color: str
    value: int | None = None

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Red, green, blue, 0 to 255."""
        code = self.color.lstrip("#")
        return int(code[0:2], 16), int(code[2:4], 16), int(code[4:6], 16)


@dataclass(frozen=True)
class ClassTable:
    """The ordered classes of a data set or a model.

    Parameters
    ----------
    classes
        2 to 254 classes; the order is that of label vectors and network outputs.
    ignore
        Mask values that are no class on purpose (glass, unannotated).

    Raises
    ------
    DataError
        If a name, a value or a colour is missing, repeated or malformed.
    """

    classes: tuple[ClassInfo, ...]
    ignore: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        problems = []
        names = [c.name for c in self.classes]
        values = [c.value for c in self.classes if c.value is not None]
        if not 2 <= len(names) <= MAX_CLASSES:
            problems.append(f"{len(names)} classes; between 2 and {MAX_CLASSES} are possible")
        problems += [f"class name {n!r} occurs twice" for n in _repeated(names)]
        problems += [f"mask value {v} stands for two classes" for v in _repeated(values)]
        problems += [
            f"mask value {v} is a class and ignored" for v in set(values) & set(self.ignore)
        ]
        if values and len(values) != len(names):
            problems.append("either every class has a mask value or none has")
        for c in self.classes:
            if not c.name.strip():
                problems.append("a class name is empty")
            if not _HEX.fullmatch(c.color):
                problems.append(f"class {c.name!r}: colour {c.color!r} is not '#rrggbb'")
        problems += [
            f"mask value {v} does not fit a byte (0 to 255)"
            for v in (*values, *self.ignore)
            if not 0 <= v <= 255
        ]
        if problems:
            raise DataError(f"The class table is not valid:{listed(problems)}")

    # -- making one -----------------------------------------------------------------

    @classmethod
    def from_names(
        cls,
        names: Sequence[str],
        values: Sequence[int] | None = None,
        colors: Sequence[str] | None = None,
        ignore: Sequence[int] = (),
    ) -> ClassTable:
        """Make a table from plain lists; colours default to a colour-blind-safe palette."""
        colors = colors or [_color(i) for i in range(len(names))]
        return cls(
            tuple(
                ClassInfo(name, colors[i], None if values is None else int(values[i]))
                for i, name in enumerate(names)
            ),
            tuple(int(v) for v in ignore),
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "class table") -> ClassTable:
        """Make a table from parsed TOML or JSON (the form of `to_dict`).

        Raises
        ------
        DataError
            Naming `where` and every entry that is not understood.
        """
        entries = data.get("class")
        if not isinstance(entries, list) or not entries:
            raise DataError(
                f"{where}: no [[class]] entries. Each class needs [[class]] with a name and, "
                'for sets with masks, a value:\n\n  [[class]]\n  name = "tumour"\n  value = 0\n'
                '  color = "#d55e00"'
            )
        classes, problems = [], []
        for i, entry in enumerate(entries):
            if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
                problems.append(f"[[class]] number {i + 1} has no name")
                continue
            value = entry.get("value")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                problems.append(f"class {entry['name']!r}: value {value!r} is not an integer")
                continue
            classes.append(ClassInfo(entry["name"], str(entry.get("color", _color(i))), value))
        ignore = data.get("ignore", [])
        if not isinstance(ignore, list) or not all(
            isinstance(v, int) and not isinstance(v, bool) for v in ignore
        ):
            problems.append(f"ignore = {ignore!r} is not a list of integers")
        if problems:
            raise DataError(f"{where} is not valid:{listed(problems)}")
        try:
            return cls(tuple(classes), tuple(ignore))
        except DataError as error:
            raise DataError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: str | Path) -> ClassTable:
        """Read a ``classes.toml`` file.

        Raises
        ------
        DataError
            If the file is missing, is not TOML, or does not describe classes.
        """
        path = Path(path)
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"There is no class table {path}.") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise DataError(f"{path} cannot be read as TOML: {error}") from error
        return cls.from_dict(data, str(path))

    # -- writing it -----------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that `from_dict` reads back."""
        entries: list[dict[str, Any]] = []
        for c in self.classes:
            entry: dict[str, Any] = {"name": c.name}
            if c.value is not None:
                entry["value"] = c.value
            entries.append({**entry, "color": c.color})
        return {"ignore": list(self.ignore), "class": entries}

    def write(self, path: str | Path) -> None:
        """Write a ``classes.toml`` file."""
        import tomli_w

        Path(path).write_text(tomli_w.dumps(self.to_dict()), encoding="utf-8")

    # -- using it -------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in order."""
        return tuple(c.name for c in self.classes)

    @property
    def rgb(self) -> NDArray[np.uint8]:
        """Colours, shape (K, 3)."""
        return np.array([c.rgb for c in self.classes], np.uint8)

    @property
    def has_values(self) -> bool:
        """Whether the classes have mask values."""
        return all(c.value is not None for c in self.classes)

    def index(self, name: str) -> int:
        """Return the position of the class called `name`; DataError if there is none."""
        try:
            return self.names.index(name)
        except ValueError:
            raise DataError(
                f"There is no class {name!r}. The classes are: {', '.join(self.names)}."
            ) from None

    def with_index_values(self) -> ClassTable:
        """Return this table for masks that hold class indices, with `IGNORE` ignored."""
        return ClassTable(
            tuple(replace(c, value=i) for i, c in enumerate(self.classes)), (IGNORE,)
        )

    def lookup(self) -> NDArray[np.uint8]:
        """Return the (256,) table that turns mask values into class indices.

        Values that are neither a class nor ignored map to `IGNORE` as well; use `unlisted`
        to report them.
        """
        if not self.has_values:
            raise DataError(
                "The class table has no mask values, so masks cannot be read with it. "
                "Add 'value = ...' to every [[class]]."
            )
        table = np.full(256, IGNORE, np.uint8)
        for i, c in enumerate(self.classes):
            table[c.value] = i
        return table

    def to_indices(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn a mask of file values into class indices, `IGNORE` elsewhere; same shape."""
        return self.lookup()[mask]

    def unlisted(self, mask: NDArray[np.uint8]) -> dict[int, int]:
        """Count the pixels of each value that is neither a class nor ignored."""
        counts = np.bincount(np.asarray(mask).reshape(-1), minlength=256)
        known = {c.value for c in self.classes} | set(self.ignore)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts) if int(v) not in known}


def _color(i: int) -> str:
    """Return the palette's colour `i`; past its end, hues by the golden angle."""
    if i < len(PALETTE):
        return PALETTE[i]
    import colorsys

    r, g, b = colorsys.hsv_to_rgb((i * 0.61803398875) % 1.0, 0.55 + 0.4 * (i % 2), 0.9)
    return f"#{round(r * 255):02x}{round(g * 255):02x}{round(b * 255):02x}"


def _repeated(items: Sequence[Any]) -> list[Any]:
    return sorted({x for x in items if items.count(x) > 1})
