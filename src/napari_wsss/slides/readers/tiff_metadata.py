"""Resolution and properties of a TIFF: Aperio's line, OME-XML, ImageJ's unit, TIFF tags."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from napari_wsss.slides.readers.base import FOREIGN_ERRORS
from napari_wsss.slides.resolution import MAX_PRINT_MPP, isotropic_mpp, to_micrometers

__all__ = ["resolution"]

_TAG_UNITS = {2: "inch", 3: "cm", 4: "mm", 5: "um"}


def resolution(tif: Any) -> tuple[float | None, dict[str, Any]]:
    """Return µm/px of the first page, None if nothing usable is said, and the properties.

    Parameters
    ----------
    tif
        An open `tifffile.TiffFile`.

    Returns
    -------
    tuple
        The raw numbers stay in the properties as ``mpp-x`` and ``mpp-y`` in any case.
    """
    page = tif.pages[0]
    description = str(page.description or "")
    properties: dict[str, Any] = {"reader": "tifffile", "compression": page.compression.name}
    largest = MAX_PRINT_MPP
    if tif.is_svs:
        fields = _aperio_fields(description)
        properties.update(
            {f"aperio.{k}": v for k, v in fields.items()}, vendor="aperio", objective=None
        )
        properties["objective"] = fields.get("AppMag")
        pair: tuple[Any, Any] = (fields.get("MPP"), fields.get("MPP"))
        largest = 100.0
    elif tif.is_ome:
        properties["vendor"] = "ome"
        pair = _ome_size(tif.ome_metadata or "")
        largest = 100.0
    else:
        properties["vendor"] = "generic-tiff"
        pair = _tag_size(page, description)
    if pair != (None, None):
        properties["mpp-x"], properties["mpp-y"] = pair
    return isotropic_mpp(*pair, largest), properties


def _aperio_fields(description: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in description.split("|")[1:])
    return {key.strip(): value.strip() for key, sep, value in pairs if sep}


def _ome_size(xml: str) -> tuple[float | None, float | None]:
    """Return PhysicalSizeX and Y of the first image in µm."""
    try:
        pixels = ElementTree.fromstring(xml).find(".//{*}Pixels")
    except (ElementTree.ParseError, ValueError):
        return None, None
    if pixels is None:
        return None, None
    return _ome_axis(pixels, "X"), _ome_axis(pixels, "Y")


def _ome_axis(pixels: ElementTree.Element, axis: str) -> float | None:
    value = pixels.get(f"PhysicalSize{axis}")
    unit = pixels.get(f"PhysicalSize{axis}Unit", "µm")
    try:
        return None if value is None else to_micrometers(float(value), unit)
    except ValueError:
        return None


def _tag_size(page: Any, description: str) -> tuple[float | None, float | None]:
    """Return the pixel size of the resolution tags in µm."""
    try:
        unit = _TAG_UNITS.get(int(page.tags.valueof(296, 1)))
        if unit is None and description.startswith("ImageJ"):
            found = re.search(r"^unit=(.+)$", description, re.MULTILINE)
            unit = found[1].replace("\\u00B5", "µ") if found else None
        sizes = []
        for code in (282, 283):
            above, below = page.tags.valueof(code, (0, 0))
            sizes.append(to_micrometers(below / above, unit) if above else None)
    except FOREIGN_ERRORS:
        return None, None
    return sizes[0], sizes[1]
