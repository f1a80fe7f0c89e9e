"""The manifest is valid, and everything in it exists."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from npe2 import PluginManifest
from npe2._command_registry import CommandRegistry

from napari_wsss.panels.reader import get_reader
from napari_wsss.slides.opening import SLIDE_SUFFIXES

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = files("napari_wsss") / "napari.yaml"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_file(Path(str(MANIFEST)))


def test_npe2_validates_it():
    done = subprocess.run(
        [sys.executable, "-m", "npe2", "validate", str(MANIFEST)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_installed_package_announces_it():
    assert PluginManifest.from_distribution("napari-wsss").name == "napari-wsss"


def test_the_copy_at_the_top_is_the_same():
    top = ROOT / "napari.yaml"
    # A checkout without symbolic links (Windows) holds the link's target as text.
    assert top.read_text("utf-8").strip() in (
        MANIFEST.read_text("utf-8").strip(),
        "src/napari_wsss/napari.yaml",
    )


def test_every_command_resolves(manifest):
    manifest.validate_imports()
    registry = CommandRegistry()
    registry.register_manifest(manifest)
    for command in manifest.contributions.commands:
        assert callable(registry.get(command.id)), command.id


def test_every_kind_of_slide_is_claimed(manifest):
    (reader,) = manifest.contributions.readers
    files = {p for p in reader.filename_patterns if not p.startswith("*.ome.")} - {"*.zarr"}
    assert files == {f"*{suffix}" for suffix in SLIDE_SUFFIXES}


@pytest.mark.parametrize(
    "name",
    [
        "a.svs", "a.svslide", "a.ndpi", "a.mrxs", "a.scn", "a.bif", "a.vms", "a.vmu",
        "a.czi", "a.dcm", "a.tif", "a.tiff", "a.btf", "a.qptiff", "a.ome.tif", "a.ome.btf",
    ],
)  # fmt: skip
def test_manifest_and_reader_claim_the_same(manifest, name):
    (reader,) = manifest.contributions.readers
    assert any(Path(name).match(pattern) for pattern in reader.filename_patterns)
    assert get_reader(name) is not None
    assert get_reader(name.upper()) is not None


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.jpeg", "a.csv"])
def test_plain_images_are_left_to_napari(manifest, name):
    (reader,) = manifest.contributions.readers
    assert not any(Path(name).match(pattern) for pattern in reader.filename_patterns)
    assert get_reader(name) is None


def test_zarr_folders_are_accepted(manifest):
    (reader,) = manifest.contributions.readers
    assert "*.zarr" in reader.filename_patterns
    assert reader.accepts_directories


def test_the_menu_lists_every_panel_in_the_order_of_the_work(manifest):
    from napari_wsss.panels.workspace import PANELS

    menus = manifest.contributions.menus
    (entry,) = menus["napari/layers/segment"]
    steps = sorted(menus[entry.submenu], key=lambda item: item.group)
    names = {w.command: w.display_name for w in manifest.contributions.widgets}
    assert [names.get(step.command, "all") for step in steps] == ["all", *PANELS]


def test_panels_are_called_as_the_manifest_says(manifest):
    registry = CommandRegistry()
    registry.register_manifest(manifest)
    for place, widget in enumerate(manifest.contributions.widgets, start=1):
        panel = registry.get(widget.command)
        assert panel.title == widget.display_name
        assert panel.order == place


def test_no_field_is_used_that_older_napari_refuses():
    text = yaml.safe_load(MANIFEST.read_text("utf-8"))
    for widget in text["contributions"]["widgets"]:
        assert set(widget) == {"command", "display_name"}


def test_docks_are_found_by_menu_and_by_name(manifest):
    # napari calls docks after the plugin's name in one place, after its display name in another.
    assert manifest.display_name == manifest.name


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.geojson", "a.geojson.gz"])
def test_labels_are_saved_as(manifest, name):
    assert any(
        name.endswith(extension)
        for writer in manifest.contributions.writers
        for extension in writer.filename_extensions
    )


def test_icon_is_shipped_as_svg(manifest):
    package, _, resource = manifest.icon.partition(":")
    icon = ET.fromstring((files(package) / resource).read_text("utf-8"))
    assert icon.tag.endswith("svg")
    assert icon.get("viewBox") == "0 0 64 64"


def test_the_documentation_names_the_menu_as_it_is(manifest):
    (submenu,) = manifest.contributions.submenus
    (menu,) = (m for m, items in manifest.contributions.menus.items() if m != submenu.id)
    assert menu == "napari/layers/segment"
    path = f"Layers > Segment > {submenu.label}"
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md"]
    pages += ROOT.glob("src/napari_wsss/panels/**/*.py")
    for page in pages:
        text = re.sub(r"[\s\">]*>[\s\">]*", " > ", re.sub(r"\s+", " ", page.read_text("utf-8")))
        for found in re.finditer(r"(Layers|Plugins) > ", text):
            assert text[found.start() :].startswith(path), page
