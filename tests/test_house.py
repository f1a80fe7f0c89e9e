"""The rules of the house: floors, light imports, public names, size of files."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_wsss

PACKAGE = Path(napari_wsss.__file__).parent
ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    {"allocator", "environment", "errors", "lazy"},
    {"classes", "files", "jobs", "settings"},
    {"models", "slides", "evaluation", "samples", "recipes"},
    {"inference", "patches", "export"},
    {"cams"},
    {"training"},
    {"workflows"},
    {"cli", "panels"},
)
FLOOR = {room: i for i, rooms in enumerate(FLOORS, start=1) for room in rooms}
SCREEN = {"magicgui", "napari", "qtpy", "superqt", "PyQt5", "PyQt6", "PySide6"}
MAX_LINES = 500


def sources():
    return sorted(path for path in PACKAGE.rglob("*.py"))


def short(path):
    return path.relative_to(PACKAGE).as_posix()


def room(path):
    """Return the room a file belongs to; None for the package's own ``__init__``."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def imports(path):
    """Yield (line, full name) of everything that a file imports, at any depth."""
    package = ["napari_wsss", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], base]).rstrip(".")
            # `from napari_wsss import classes` names a room in the second part.
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_every_file_has_a_floor():
    assert {room(path) for path in sources()} - {None} <= set(FLOOR)


@pytest.mark.parametrize("path", sources(), ids=short)
def test_imports_come_from_floors_below(path):
    own = room(path)
    if own is None:
        return
    wrong = []
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] != "napari_wsss" or len(parts) < 2 or parts[1] in (own, "__version__"):
            continue
        if FLOOR.get(parts[1], 99) >= FLOOR[own]:
            wrong.append(f"{short(path)}:{line} imports {name}")
    assert not wrong


def test_only_panels_import_a_screen_toolkit():
    wrong = [
        f"{short(path)}:{line} imports {name}"
        for path in sources()
        if room(path) != "panels"
        for line, name in imports(path)
        if name.split(".")[0] in SCREEN
    ]
    assert not wrong


def test_everything_below_the_panels_imports_without_a_screen():
    modules = [
        ".".join(["napari_wsss", *path.relative_to(PACKAGE).with_suffix("").parts])
        for path in sources()
        if room(path) != "panels" and path.stem != "__main__"
    ]
    run_python(
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(SCREEN)!r}))\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name.removesuffix('.__init__'))\n"
    )


@pytest.mark.parametrize("module", ["napari_wsss", "napari_wsss.panels.reader"])
def test_importing_it_is_light(module):
    heavy = ["torch", "napari", "qtpy", "matplotlib", "pandas", "timm", "rasterio", "openslide"]
    loaded = run_python(
        f"import sys, {module}\nprint(*[name for name in {heavy!r} if name in sys.modules])"
    )
    assert loaded.split() == []


@pytest.mark.parametrize("name", napari_wsss.__all__)
def test_public_names_exist_and_are_documented(name):
    value = getattr(napari_wsss, name)
    if name != "__version__":
        assert (value.__doc__ or "").strip(), f"napari_wsss.{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        napari_wsss.no_such_name  # noqa: B018


def test_no_file_is_too_long():
    texts = [*sources(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    long = {str(p): n for p in texts if (n := len(p.read_text("utf-8").splitlines())) > MAX_LINES}
    assert not long


def test_every_module_says_what_it_is_for():
    silent = [
        short(p) for p in sources() if not ast.get_docstring(ast.parse(p.read_text("utf-8")))
    ]
    assert not silent
